package imagebuild

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/klauspost/compress/gzip"

	"github.com/kirizan/kitt-agent/internal/base"
)

// ServerDockerfile is where the file to build by is in a context that the server
// packed.
const ServerDockerfile = "docker/web/Dockerfile"

// serverRoot is the directory that the server puts everything into.
const serverRoot = "kitt-build-context"

// Limits bound a context. The server's has some 500 entries and 5 MB.
type Limits struct {
	Entries int   // files, directories and links
	Bytes   int64 // of all files together, unpacked
	Path    int   // bytes of a name

	// Ratio bounds how much larger the files may be than what they were unpacked
	// from, beyond the first 64 MiB. Text compresses to a tenth, DEFLATE at most
	// to a thousandth.
	Ratio int64
}

// DefaultLimits are those of a context that somebody else packed.
var DefaultLimits = Limits{Entries: 50_000, Bytes: 2 << 30, Path: 1024, Ratio: 200}

// ratioFrom is the size from which the ratio counts, in bytes.
const ratioFrom = 64 << 20

// A ContextError says what is wrong with a context.
type ContextError struct {
	Entry  string // name of the entry, as it stands in the archive; may be empty
	Reason string
}

// Error names the entry and says what is wrong with it.
func (e *ContextError) Error() string {
	if e.Entry == "" {
		return "build context: " + e.Reason
	}
	return fmt.Sprintf("build context: entry %.200q %s", e.Entry, e.Reason)
}

// Repack reads a context from r, a tar with or without gzip, and writes it to w
// as the tar that the engine takes: without the directory that the server packs
// everything into, with nothing that leads out of the context, and without what
// the image has no use for, such as owners and attributes. Nothing is unpacked to
// disk. The file dockerfile has to be in it. The error is a [*ContextError] where
// the context is at fault.
func Repack(ctx context.Context, w io.Writer, r io.Reader, dockerfile string, limits Limits) error {
	packed := &counter{r: r}
	in := bufio.NewReaderSize(packed, 64<<10)
	var files io.Reader = in
	if magic, _ := in.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) { // what is shorter is no tar either
		zip, err := gzip.NewReader(in)
		if err != nil {
			return &ContextError{Reason: "it is no gzip archive: " + err.Error()}
		}
		defer zip.Close()
		files = zip
	}
	p := &repacker{limits: limits, packed: packed, seen: map[string]byte{}}
	p.out = tar.NewWriter(w)
	files = base.Reader(ctx, files)
	entries := tar.NewReader(&bounded{p: p, r: files})
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		header, err := entries.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return broken(ctx, err)
		}
		if err := p.entry(ctx, header, entries); err != nil {
			return err
		}
	}
	// What is behind the end of the tar is read too, up to gzip's own checksum.
	if _, err := io.Copy(io.Discard, &bounded{p: p, r: files}); err != nil {
		return broken(ctx, err)
	}
	if p.seen[dockerfile] != tar.TypeReg {
		return &ContextError{Reason: "there is no " + dockerfile + " in it"}
	}
	return p.out.Close()
}

// A repacker is what is known of a context so far.
type repacker struct {
	limits Limits
	packed *counter
	out    *tar.Writer

	seen  map[string]byte // the type of each entry that was written, by its name
	root  bool            // whether everything lies in serverRoot
	bytes int64           // of the unpacked stream
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// bounded reads the unpacked stream as far as the limits let it.
type bounded struct {
	p *repacker
	r io.Reader
}

func (b *bounded) Read(buf []byte) (int, error) {
	n, err := b.r.Read(buf)
	p := b.p
	p.bytes += int64(n)
	switch {
	case p.bytes > p.limits.Bytes:
		return 0, &ContextError{Reason: fmt.Sprintf("unpacked it has more than %d bytes", p.limits.Bytes)}
	case p.bytes > ratioFrom && p.bytes > p.packed.n*p.limits.Ratio:
		return 0, &ContextError{Reason: fmt.Sprintf("it unpacks to more than %d times its size", p.limits.Ratio)}
	}
	return n, err
}

// broken returns the error of an archive that cannot be read.
func broken(ctx context.Context, err error) error {
	if fault, ok := errors.AsType[*ContextError](err); ok {
		return fault
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return &ContextError{Reason: "it cannot be read: " + err.Error()}
}

// entry checks one entry and writes it.
func (p *repacker) entry(ctx context.Context, h *tar.Header, data io.Reader) error {
	refuse := func(format string, args ...any) error {
		return &ContextError{Entry: h.Name, Reason: fmt.Sprintf(format, args...)}
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := p.name(h.Name)
	switch {
	case err != nil:
		return refuse("%v", err)
	case len(p.seen) >= p.limits.Entries:
		return refuse("is one too many: a context has at most %d", p.limits.Entries)
	case name == "." && h.Typeflag == tar.TypeDir:
		return nil
	case name == ".":
		return refuse("takes the place of the context itself")
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if kind, ok := p.seen[dir]; ok && kind != tar.TypeDir {
			return refuse("lies below %q, which is no directory", dir)
		}
	}
	// The server packs some files twice, of which the later counts. One that
	// changes its kind is a trick.
	if kind, twice := p.seen[name]; twice && kind != h.Typeflag {
		return refuse("is there twice, as two kinds of thing")
	}
	clean := &tar.Header{Typeflag: h.Typeflag, Name: name, Mode: h.Mode & 0o777, ModTime: h.ModTime}
	switch h.Typeflag {
	case tar.TypeReg:
		clean.Size = h.Size
	case tar.TypeDir:
		clean.Name += "/"
	case tar.TypeSymlink:
		if err := p.checkLink(name, h.Linkname); err != nil {
			return refuse("%v", err)
		}
		clean.Linkname = h.Linkname
	case tar.TypeLink:
		target, err := p.name(h.Linkname)
		if err != nil || p.seen[target] != tar.TypeReg {
			return refuse("is a link to %.200q, which is no file before it", h.Linkname)
		}
		clean.Linkname = target
	default:
		return refuse("is a device or of another kind (%q) that a context cannot have", h.Typeflag)
	}
	p.seen[name] = h.Typeflag
	for dir := path.Dir(name); dir != "." && p.seen[dir] == 0; dir = path.Dir(dir) {
		p.seen[dir] = tar.TypeDir // it comes to be with what lies in it
	}
	if err := p.out.WriteHeader(clean); err != nil {
		return fmt.Errorf("hand on %.200q: %w", name, err)
	}
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	// What the reader refuses is the context's fault, what the writer does isn't.
	var readErr error
	_, err = io.Copy(p.out, readerFunc(func(buf []byte) (int, error) {
		n, err := data.Read(buf)
		if err != nil && !errors.Is(err, io.EOF) {
			readErr = err
		}
		return n, err
	}))
	if readErr != nil {
		return broken(ctx, readErr)
	}
	if err != nil {
		return fmt.Errorf("hand on %.200q: %w", name, err)
	}
	return nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// name returns where in the context an entry is.
func (p *repacker) name(raw string) (string, error) {
	switch {
	case raw == "":
		return "", errors.New("has no name")
	case len(raw) > p.limits.Path:
		return "", fmt.Errorf("has a name of more than %d bytes", p.limits.Path)
	case !utf8.ValidString(raw) || strings.ContainsAny(raw, "\x00\n\r"):
		return "", errors.New("has a name that is no plain text")
	case strings.HasPrefix(raw, "/"):
		return "", errors.New("has an absolute path")
	}
	for part := range strings.SplitSeq(raw, "/") {
		if part == ".." {
			return "", errors.New("leads out of the context")
		}
	}
	name := path.Clean(raw)
	first, rest, _ := strings.Cut(name, "/")
	if len(p.seen) == 0 && !p.root {
		p.root = first == serverRoot
	}
	if !p.root {
		return name, nil
	}
	if first != serverRoot {
		return "", fmt.Errorf("is outside %s", serverRoot)
	}
	if rest == "" {
		return ".", nil
	}
	return rest, nil
}

// checkLink checks where a symbolic link leads to.
func (p *repacker) checkLink(name, target string) error {
	switch {
	case target == "" || len(target) > p.limits.Path:
		return errors.New("is a link whose target is empty or too long")
	case !utf8.ValidString(target) || strings.ContainsAny(target, "\x00\n\r"):
		return errors.New("is a link whose target is no plain text")
	case strings.HasPrefix(target, "/"):
		return fmt.Errorf("is a link to the absolute path %.200q", target)
	}
	if at := path.Join(path.Dir(name), target); at == ".." || strings.HasPrefix(at, "../") {
		return fmt.Errorf("is a link to %.200q, which leads out of the context", target)
	}
	// Behind another link .. leads from where that leads to, which the path alone
	// doesn't tell.
	down := false
	for part := range strings.SplitSeq(target, "/") {
		if part == ".." && down {
			return fmt.Errorf("is a link to %.200q, which goes down and up again", target)
		}
		down = down || part != ".." && part != "." && part != ""
	}
	return nil
}
