package imagebuild

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// ignoreFile lists what of a directory is not part of the context.
const ignoreFile = ".dockerignore"

// LocalLimits are those of a context that the user packed himself.
var LocalLimits = Limits{Entries: 1_000_000, Bytes: 64 << 30, Path: 4096, Ratio: 2000}

// PackDirectory writes a directory to w as a tar, without what its .dockerignore
// leaves out. Sockets are left out too; other things that a context cannot have
// are for [Repack] to refuse.
func PackDirectory(ctx context.Context, w io.Writer, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	ignored, err := readIgnore(root)
	if err != nil {
		return err
	}
	out := tar.NewWriter(w)
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case name == "." || d.Type() == fs.ModeSocket:
			return nil
		}
		skip, err := ignored.MatchesOrParentMatches(name)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", ignoreFile, err)
		case skip && name != ignoreFile:
			// A pattern such as !dir/file may take something below it back.
			if d.IsDir() && !ignored.Exclusions() {
				return fs.SkipDir
			}
			return nil
		}
		return pack(out, root, name, d)
	})
	if err != nil {
		return fmt.Errorf("pack %s: %w", dir, err)
	}
	return out.Close()
}

func readIgnore(root *os.Root) (*patternmatcher.PatternMatcher, error) {
	text, err := root.ReadFile(ignoreFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	patterns, err := ignorefile.ReadAll(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ignoreFile, err)
	}
	m, err := patternmatcher.New(patterns)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ignoreFile, err)
	}
	return m, nil
}

// pack writes one entry.
func pack(out *tar.Writer, root *os.Root, name string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	link := ""
	if d.Type() == fs.ModeSymlink {
		if link, err = root.Readlink(name); err != nil {
			return err
		}
	}
	header, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	if header.Name = path.Clean(name); d.IsDir() {
		header.Name += "/"
	}
	if err := out.WriteHeader(header); err != nil {
		return err
	}
	if !d.Type().IsRegular() {
		return nil
	}
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	// A file that grew meanwhile is cut at the size that the header says; one that
	// shrank makes the next header an error.
	_, err = io.CopyN(out, f, header.Size)
	return err
}
