package modelcopy

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/storage/internal/beneath"
	"github.com/kirizan/kitt-agent/storage/internal/iofault"
)

// checkFile is the remedy for a file that is wrong on the share.
const checkFile = "check the file on the share"

// verify compares the copied files with their headers and with checksums on the
// share.
func (c *copier) verify(ctx context.Context, timers []*OpTimer) error {
	sums, err := c.collectSums(timers[0])
	if err != nil {
		return err
	}
	return parallel(ctx, timers, len(c.files), func(_ *OpTimer, i int) error {
		f := c.files[i]
		sum, summed := sums[f.path]
		name := path.Base(path.Join(c.Model, f.path))
		lower := strings.ToLower(name)
		if !summed && !strings.HasSuffix(lower, ".safetensors") && !strings.HasSuffix(lower, ".gguf") {
			return nil
		}
		err := c.verifyFile(ctx, f, name, sum, summed)
		if iofault.ClassOf(err) == iofault.Damaged {
			err = errors.Join(err, c.discard(f))
		}
		return iofault.First(err)
	})
}

func (c *copier) verifyFile(ctx context.Context, f *fileCopy, name string, want sha256Sum, summed bool) (err error) {
	file, err := c.into.Root.Open(to(f.path))
	if err != nil {
		return iofault.Explain("verify", f.path, err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	at := path.Join(c.Model, f.path)
	if err := checkLength(name, file, f.size); errors.Is(err, errTruncated) {
		return &fault.Error{Class: iofault.Damaged, Text: base.Names(at) + " is damaged: " + err.Error(), Fix: checkFile, Err: err}
	} else if err != nil {
		return iofault.Explain("verify", f.path, err)
	}
	if !summed {
		return nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, withContext(ctx, file)); err != nil {
		return iofault.Explain("verify", f.path, err)
	}
	if got := h.Sum(nil); string(got) != string(want[:]) {
		return fault.New(iofault.Damaged, checkFile, "%q is damaged: its SHA-256 is %x, the share says %x", at, got, want)
	}
	return nil
}

// collectSums reads the checksums of the model's files, by path in the model.
func (c *copier) collectSums(t *OpTimer) (map[string]sha256Sum, error) {
	all := map[string]sha256Sum{}
	for _, f := range c.files {
		of, ok := isSums(path.Base(f.path))
		if !ok || f.path == "." {
			continue
		}
		file, err := c.into.Root.Open(to(f.path))
		if err != nil {
			return nil, iofault.Explain("read checksums", f.path, err)
		}
		dir := path.Dir(f.path)
		for name, sum := range parseSums(file, of) {
			// A file of checksums written while they were computed has a wrong one of
			// itself.
			if at := path.Join(dir, name); at != f.path {
				all[at] = sum
			}
		}
		if err := file.Close(); err != nil {
			return nil, iofault.Explain("read checksums", f.path, err)
		}
	}
	switch {
	case c.Files != nil:
		return all, c.sumsNextTo(c.Model, c.Files, all, t)
	case c.tree.entries[0].kind != KindFile:
		return all, c.sumsOfLinks(all)
	}
	base, sums := path.Base(c.Model), map[string]sha256Sum{}
	err := c.sumsNextTo(path.Dir(c.Model), []string{base}, sums, t)
	if sum, ok := sums[base]; ok {
		all["."] = sum
	}
	return all, err
}

// sumsNextTo reads the checksums of files from files next to them in dir on the
// share, by name.
func (c *copier) sumsNextTo(dir string, files []string, all map[string]sha256Sum, t *OpTimer) error {
	only := "" // the file that a checksum without a name is of
	if len(files) == 1 {
		only = files[0]
	}
	read := func(name, of string) error {
		at := path.Join(dir, name)
		t.Begin(&opRead, &at)
		defer t.End()
		sums, err := c.readSums(at, of)
		for name, sum := range sums {
			if base := path.Base(name); slices.Contains(files, base) { // the path may be of another machine
				all[base] = sum
			}
		}
		return err
	}
	for _, f := range files {
		if err := read(f+".sha256", f); err != nil {
			return err
		}
	}
	return read("SHA256SUMS", only)
}

// sumsOfLinks applies the checksums of links to the files that they lead to.
func (c *copier) sumsOfLinks(all map[string]sha256Sum) error {
	for i := range c.tree.entries {
		e := &c.tree.entries[i]
		sum, ok := all[e.path]
		if !ok {
			continue
		}
		file, ok := c.linkedFile(e)
		if !ok {
			continue
		}
		if other, ok := all[file]; ok && other != sum {
			return fault.New(iofault.Damaged, checkFile, "%q has two checksums on the share, by two of its names", path.Join(c.Model, file))
		}
		all[file] = sum
	}
	return nil
}

// linkedFile returns the path of the file that e is or leads to.
func (c *copier) linkedFile(e *entry) (file string, ok bool) {
	file = e.path
	if e.kind == KindSymlink {
		at, err := beneath.Resolve(c.into.Root, nil, to(e.path))
		if err != nil {
			return "", false // a link to nothing
		}
		file = strings.TrimPrefix(at, to(".")+"/")
		n, found := slices.BinarySearchFunc(c.tree.entries, file, func(e entry, p string) int { return strings.Compare(e.path, p) })
		if !found {
			return "", false
		}
		e = &c.tree.entries[n]
	}
	if e.kind == KindHardlink {
		file = e.link
	}
	return file, true
}

func (c *copier) readSums(at, of string) (sums map[string]sha256Sum, err error) {
	info, err := c.src.Root.Lstat(at)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxSums {
		return nil, nil // there is nothing to compare with
	}
	file, err := c.src.Open(at)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, iofault.Explain("read checksums", at, err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return parseSums(file, of), nil
}
