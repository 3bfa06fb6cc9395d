package selfupdate

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/klauspost/compress/gzip"

	"github.com/kirizan/kitt-agent/internal/base"
)

// Bounds of a package, in bytes and in files.
const (
	MaxPackage = 1 << 30   // as it is downloaded
	maxProgram = 256 << 20 // one program, unpacked
	maxText    = 64 << 10  // VERSION, SHA256SUMS and its signature each
	maxFiles   = 16
	maxWhole   = 2 << 30 // what is read of it, unpacked
)

// Names of the files in a package.
const (
	nameVersion   = "VERSION"
	nameSums      = "SHA256SUMS"
	nameSignature = "SHA256SUMS.sig"
	nameProgram   = "kitt-agent"
)

// ErrSdist is matched by the error of a package that is the Python agent's.
var ErrSdist = errors.New("this is the package of the Python agent (an sdist), which kitt-agent can't be updated from; " +
	"ask for a package of this agent with --from URL or --from FILE, or have the server offer one")

// A Platform is what a program is built for, in Go's words.
type Platform struct {
	OS, Arch string
	NVML     bool // with NVIDIA's library, which takes glibc; otherwise static
}

// String returns the name of the platform's directory in a package.
func (p Platform) String() string {
	if p.NVML {
		return p.OS + "_" + p.Arch + "_nvml"
	}
	return p.OS + "_" + p.Arch
}

// other returns the platform of the same machine's other kind of program.
func (p Platform) other() Platform {
	p.NVML = !p.NVML
	return p
}

// Contents says what a package holds.
type Contents struct {
	Version   string
	Signed    bool     // whether its signature was checked and is right
	Platforms []string // those that it has programs for
}

// Wanted says what is wanted of a package.
type Wanted struct {
	Platform Platform

	// Key, if set, is the one that the package must be signed with.
	Key ed25519.PublicKey
}

// Unpack reads a package and writes the program for the wanted platform to out.
// What it has written is the right program only if it returns no error. It stops
// reading after the program. The error matches [ErrSdist] and [ErrSignature]
// where that is what is wrong.
func Unpack(ctx context.Context, in io.Reader, want Wanted, out io.Writer) (Contents, error) {
	zipped, err := gzip.NewReader(in)
	if err != nil {
		return Contents{}, fmt.Errorf("it is no gzip file: %w", err)
	}
	defer zipped.Close()
	u := &unpacking{want: want, tar: tar.NewReader(&bounded{r: base.Reader(ctx, zipped), left: maxWhole})}
	if err := u.describe(); err != nil {
		return Contents{}, err
	}
	return u.contents, u.program(out)
}

// An unpacking is what was read of a package.
type unpacking struct {
	want     Wanted
	tar      *tar.Reader
	files    int
	pending  *tar.Header       // the header after the description
	sums     map[string]string // digests by name
	contents Contents
}

// describe reads what comes before the programs, and checks it.
func (u *unpacking) describe() error {
	version, err := u.text(nameVersion)
	if err != nil {
		return err
	}
	sums, err := u.text(nameSums)
	if err != nil {
		return err
	}
	head, err := u.next()
	if err != nil {
		return err
	}
	var signature []byte
	if head.Name == nameSignature {
		if signature, err = u.read(head); err != nil {
			return err
		}
		if head, err = u.next(); err != nil {
			return err
		}
	}
	u.pending = head
	if u.want.Key != nil {
		if signature == nil {
			return fmt.Errorf("%w: it has no signature", ErrSignature)
		}
		if err := checkSignature(u.want.Key, sums, signature); err != nil {
			return err
		}
		u.contents.Signed = true
	}
	if u.sums, err = parseSums(sums); err != nil {
		return err
	}
	sum := sha256.Sum256(version)
	if u.sums[nameVersion] != hex.EncodeToString(sum[:]) {
		return errors.New("its VERSION is not the one of its SHA256SUMS")
	}
	if u.contents.Version, err = parseVersion(version); err != nil {
		return err
	}
	for name := range u.sums {
		if dir, ok := strings.CutSuffix(name, "/"+nameProgram); ok {
			u.contents.Platforms = append(u.contents.Platforms, dir)
		}
	}
	return nil
}

// program finds the program and writes it to out.
func (u *unpacking) program(out io.Writer) error {
	name := u.want.Platform.String() + "/" + nameProgram
	digest, ok := u.sums[name]
	if !ok { // one that runs is better than none; whether it does is tried
		name = u.want.Platform.other().String() + "/" + nameProgram
		digest, ok = u.sums[name]
	}
	if !ok {
		return fmt.Errorf("it has no program for %s/%s", u.want.Platform.OS, u.want.Platform.Arch)
	}
	for head := u.pending; ; {
		if _, ok := u.sums[head.Name]; !ok || head.Name == nameVersion {
			return fmt.Errorf("%q does not belong in it", head.Name)
		}
		if head.Name == name {
			break
		}
		var err error
		if head, err = u.next(); err != nil {
			return err
		}
	}
	sum := sha256.New()
	_, err := io.Copy(io.MultiWriter(out, sum), u.tar)
	switch {
	case err != nil:
		return fmt.Errorf("unpack %s: %w", name, err)
	case hex.EncodeToString(sum.Sum(nil)) != digest:
		return fmt.Errorf("%s is not the one of its SHA256SUMS", name)
	}
	return nil
}

// text reads the next file, which must have the given name.
func (u *unpacking) text(name string) ([]byte, error) {
	head, err := u.next()
	if err != nil {
		return nil, err
	}
	if head.Name != name {
		return nil, fmt.Errorf("it is no update of kitt-agent: where %s should be, it has %q", name, head.Name)
	}
	return u.read(head)
}

func (u *unpacking) read(head *tar.Header) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(u.tar, maxText+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", head.Name, err)
	}
	if len(text) > maxText {
		return nil, fmt.Errorf("%s is longer than %d bytes", head.Name, maxText)
	}
	return text, nil
}

// next returns the header of the next file. Only plain files with plain names
// come in a package.
func (u *unpacking) next() (*tar.Header, error) {
	if u.files++; u.files > maxFiles {
		return nil, fmt.Errorf("it holds more than %d files", maxFiles)
	}
	head, err := u.tar.Next()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("it ends too early: a file is missing in it")
	}
	if err != nil {
		return nil, fmt.Errorf("read the archive: %w", err)
	}
	if isSdist(head.Name) {
		return nil, ErrSdist
	}
	if head.Typeflag != tar.TypeReg {
		return nil, fmt.Errorf("%q in it is no plain file", head.Name)
	}
	if head.Size > maxProgram { // a tar.Reader hands out no more than it says
		return nil, fmt.Errorf("%q in it is larger than %d MiB", head.Name, maxProgram>>20)
	}
	if name := head.Name; name == "" || path.IsAbs(name) || path.Clean(name) != name || strings.HasPrefix(name, "..") {
		return nil, fmt.Errorf("%q in it is no name of a package's", head.Name)
	}
	return head, nil
}

// isSdist reports whether a name is of a Python source distribution: all its
// files are in one directory, called for the project and its version.
func isSdist(name string) bool {
	dir, _, _ := strings.Cut(strings.TrimPrefix(name, "./"), "/")
	return strings.HasPrefix(dir, "kitt_agent-") || strings.HasPrefix(dir, "kitt-agent-") || strings.HasSuffix(name, "/PKG-INFO")
}

// parseSums reads SHA256SUMS: lines of 64 hex digits, two blanks and a name.
func parseSums(text []byte) (map[string]string, error) {
	sums := map[string]string{}
	for line := range bytes.Lines(text) {
		digest, name, ok := strings.Cut(strings.TrimSuffix(string(line), "\n"), "  ")
		if raw, err := hex.DecodeString(digest); err != nil || !ok || len(raw) != sha256.Size || name == "" {
			return nil, errors.New("its SHA256SUMS cannot be read")
		}
		if _, twice := sums[name]; twice || len(sums) >= maxFiles {
			return nil, errors.New("its SHA256SUMS names a file twice, or too many")
		}
		sums[name] = strings.ToLower(digest)
	}
	return sums, nil
}

// bounded fails where more is read than is left.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("unpacked it is larger than %d GiB", maxWhole>>30)
	}
	return n, err
}
