package storage

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// maxSums bounds a file of checksums, in bytes.
const maxSums = 16 << 20

type sha256Sum = [sha256.Size]byte

// isSums reports whether a file holds checksums of others, and of which one if
// it is of one.
func isSums(name string) (of string, ok bool) {
	switch upper := strings.ToUpper(name); upper {
	case "SHA256SUMS", "SHA256SUMS.TXT", "SHA256SUM", "SHA256SUM.TXT":
		return "", true
	}
	const suffix = ".sha256"
	at := len(name) - len(suffix)
	if at <= 0 || !strings.EqualFold(name[at:], suffix) {
		return "", false
	}
	return name[:at], true
}

// parseSums reads checksums as sha256sum writes them, with or without --tag. A
// line that is a checksum alone is that of the file named of. Lines that are
// neither are passed over.
func parseSums(r io.Reader, of string) map[string]sha256Sum {
	sums := map[string]sha256Sum{}
	lines := bufio.NewScanner(io.LimitReader(r, maxSums))
	lines.Buffer(make([]byte, 0, 4096), 64<<10)
	for lines.Scan() {
		// Windows ends lines with CR, and begins files with a byte order mark.
		line := strings.TrimRight(strings.TrimPrefix(lines.Text(), "\ufeff"), "\r")
		line, escaped := strings.CutPrefix(line, `\`)
		if tagged, ok := strings.CutPrefix(line, "SHA256 ("); ok {
			if at := strings.LastIndex(tagged, ") = "); at > 0 {
				addSum(sums, tagged[at+4:], unescape(tagged[:at], escaped))
			}
			continue
		}
		sum, name, _ := strings.Cut(line, " ")
		if strings.TrimSpace(name) == "" {
			name = of
		} else if len(name) > 0 && (name[0] == ' ' || name[0] == '*') {
			name = name[1:]
		}
		name = unescape(name, escaped)
		if of != "" && path.Base(name) == of {
			name = of // it was written elsewhere
		}
		addSum(sums, sum, name)
	}
	return sums
}

// unescape undoes what sha256sum does to a name with a line break or a backslash
// in it; the line then begins with a backslash.
func unescape(name string, escaped bool) string {
	if !escaped {
		return name
	}
	return strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\r`, "\r").Replace(name)
}

func addSum(sums map[string]sha256Sum, text, name string) {
	var sum sha256Sum
	if len(text) != 2*len(sum) || name == "" || len(sums) >= maxEntries {
		return
	}
	if _, err := hex.Decode(sum[:], []byte(text)); err == nil {
		sums[path.Clean(name)] = sum
	}
}

// verify holds the copied files against their headers and against checksums
// that lie beside them on the share.
func (c *copying) verify(ctx context.Context, pulses []*pulse) error {
	sums, err := c.collectSums(pulses[0])
	if err != nil {
		return err
	}
	return parallel(ctx, pulses, len(c.files), func(_ *pulse, i int) error {
		f := c.files[i]
		sum, summed := sums[f.path]
		name := path.Base(path.Join(c.rel, f.path))
		lower := strings.ToLower(name)
		if !summed && !strings.HasSuffix(lower, ".safetensors") && !strings.HasSuffix(lower, ".gguf") {
			return nil
		}
		err := c.verifyFile(ctx, f, name, sum, summed)
		if classOf(err) == ClassDamaged {
			err = errors.Join(err, c.discard(f))
		}
		return firstOf(err)
	})
}

func (c *copying) verifyFile(ctx context.Context, f *copyFile, name string, want sha256Sum, summed bool) (err error) {
	file, err := c.into.root.Open(to(f.path))
	if err != nil {
		return explain("verify", f.path, err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	at := path.Join(c.rel, f.path)
	const remedy = "check the file on the share"
	if err := checkLength(name, file, f.size); errors.Is(err, errTruncated) {
		return &Error{Kind: ClassDamaged, Text: quoteAll([]string{at}) + " is damaged: " + err.Error(), Remedy: remedy, Err: err}
	} else if err != nil {
		return explain("verify", f.path, err)
	}
	if !summed {
		return nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, contextReader{ctx, file}); err != nil {
		return explain("verify", f.path, err)
	}
	if got := h.Sum(nil); string(got) != string(want[:]) {
		return fail(ClassDamaged, remedy, "%q is damaged: its SHA-256 is %x, the share says %x", at, got, want)
	}
	return nil
}

// collectSums reads the checksums of the model's files, by path in the model.
func (c *copying) collectSums(p *pulse) (map[string]sha256Sum, error) {
	all := map[string]sha256Sum{}
	for _, f := range c.files {
		of, ok := isSums(path.Base(f.path))
		if !ok || f.path == "." {
			continue
		}
		file, err := c.into.root.Open(to(f.path))
		if err != nil {
			return nil, explain("read checksums", f.path, err)
		}
		dir := path.Dir(f.path)
		for name, sum := range parseSums(file, of) {
			// Written while they were made, they hold a wrong one of themselves.
			if at := path.Join(dir, name); at != f.path {
				all[at] = sum
			}
		}
		if err := file.Close(); err != nil {
			return nil, explain("read checksums", f.path, err)
		}
	}
	if c.tree.entries[0].kind != kindFile {
		return all, c.sumsOfLinks(all)
	}
	// A model that is one file has its checksum beside it.
	base := path.Base(c.rel)
	for _, name := range []string{base + ".sha256", "SHA256SUMS"} {
		at := path.Join(path.Dir(c.rel), name)
		p.begin(&opRead, &at)
		sums, err := c.readSums(at, base)
		p.end()
		if err != nil {
			return nil, err
		}
		if sum, ok := sums[base]; ok {
			all["."] = sum
		}
	}
	return all, nil
}

// sumsOfLinks has the checksums of links count for the files that they lead to.
func (c *copying) sumsOfLinks(all map[string]sha256Sum) error {
	for i := range c.tree.entries {
		e := &c.tree.entries[i]
		sum, ok := all[e.path]
		if !ok {
			continue
		}
		file := e.path
		if e.kind == kindSymlink {
			at, err := resolveIn(c.into.root, nil, to(e.path))
			if err != nil {
				continue // it leads to nothing
			}
			file = strings.TrimPrefix(at, to(".")+"/")
			n, found := slices.BinarySearchFunc(c.tree.entries, file, func(e entry, p string) int { return strings.Compare(e.path, p) })
			if !found {
				continue
			}
			e = &c.tree.entries[n]
		}
		if e.kind == kindHardlink {
			file = e.link
		}
		if other, ok := all[file]; ok && other != sum {
			return fail(ClassDamaged, "check the file on the share", "%q has two checksums on the share, by two of its names", path.Join(c.rel, file))
		}
		all[file] = sum
	}
	return nil
}

func (c *copying) readSums(at, of string) (sums map[string]sha256Sum, err error) {
	info, err := c.src.root.Lstat(at)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxSums {
		return nil, nil // none there that we could hold anything against
	}
	file, err := c.src.open(at)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, explain("read checksums", at, err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return parseSums(file, of), nil
}

// A contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}
