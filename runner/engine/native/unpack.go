package native

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/kirizan/kitt-agent/internal/base"
)

// Bounds of what a package unpacks to.
const (
	maxUnpacked = 64 << 30 // bytes
	maxEntries  = 200_000
)

// unpackerOf returns what unpacks a file of that name into a directory, nil if nothing
// does.
func unpackerOf(name string) func(ctx context.Context, file, dir string) error {
	switch {
	case strings.HasSuffix(name, ".tar.gz"), strings.HasSuffix(name, ".tgz"):
		return untar
	case strings.HasSuffix(name, ".zip"):
		return unzip
	}
	return nil
}

// A tree is a directory into which something is unpacked. Nothing lands outside of it.
type tree struct {
	root    *os.Root
	bytes   int64
	entries int
}

// add makes one entry, with its content where it is a file. Links lead to
// what is inside.
func (t *tree) add(name string, mode fs.FileMode, link string, content io.Reader) error {
	name = path.Clean(strings.TrimSuffix(name, "/"))
	if t.entries++; t.entries > maxEntries {
		return fmt.Errorf("it has more than %d entries", maxEntries)
	}
	if name == "." {
		return nil
	}
	if !filepath.IsLocal(name) {
		return fmt.Errorf("%s lies outside", base.Printable(name, 200))
	}
	if err := t.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	switch mode.Type() {
	case fs.ModeDir:
		return t.root.MkdirAll(name, 0o755)
	case fs.ModeSymlink:
		if path.IsAbs(link) || !filepath.IsLocal(path.Join(path.Dir(name), link)) {
			return fmt.Errorf("the link %s leads outside", base.Printable(name, 200))
		}
		return t.root.Symlink(link, name)
	case 0:
		return t.write(name, mode, content)
	}
	return fmt.Errorf("%s is neither a file, a directory nor a link", base.Printable(name, 200))
}

func (t *tree) write(name string, mode fs.FileMode, content io.Reader) (err error) {
	file, err := t.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644|mode.Perm()&0o111)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	n, err := io.Copy(file, io.LimitReader(content, maxUnpacked-t.bytes+1))
	if t.bytes += n; t.bytes > maxUnpacked {
		return fmt.Errorf("it unpacks to more than %s", base.Size(maxUnpacked))
	}
	return err
}

func newTree(dir string) (*tree, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &tree{root: root}, nil
}

func untar(ctx context.Context, file, dir string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	t, err := newTree(dir)
	if err != nil {
		return err
	}
	defer t.root.Close()
	for r := tar.NewReader(unzipped); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if h.Typeflag == tar.TypeLink {
			return fmt.Errorf("%s is a hard link", base.Printable(h.Name, 200))
		}
		if err := t.add(h.Name, h.FileInfo().Mode(), h.Linkname, base.Reader(ctx, r)); err != nil {
			return err
		}
	}
}

// maxLink bounds the target of a link in a zip file, in bytes.
const maxLink = 4096

func unzip(ctx context.Context, file, dir string) error {
	z, err := zip.OpenReader(file)
	if err != nil {
		return err
	}
	defer z.Close()
	t, err := newTree(dir)
	if err != nil {
		return err
	}
	defer t.root.Close()
	for _, entry := range z.File {
		if err := t.addZipped(ctx, entry); err != nil {
			return err
		}
	}
	return nil
}

func (t *tree) addZipped(ctx context.Context, entry *zip.File) error {
	content, err := entry.Open()
	if err != nil {
		return err
	}
	defer content.Close()
	link := ""
	if entry.Mode().Type() == fs.ModeSymlink {
		text, err := io.ReadAll(io.LimitReader(content, maxLink))
		if err != nil {
			return err
		}
		link = string(text)
	}
	return t.add(entry.Name, entry.Mode(), link, base.Reader(ctx, content))
}
