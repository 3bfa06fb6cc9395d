package modelcopy

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kirizan/kitt-agent/storage/internal/beneath"
)

// A Source is a directory tree that models are copied from.
type Source struct {
	beneath.Folder          // its top directory
	seenAt         []string // absolute paths of it, for absolute links
}

// OpenSource opens the share that is mounted at mount.
func OpenSource(mount string) (*Source, error) {
	top, err := beneath.Open(mount)
	if err != nil {
		return nil, err
	}
	real, err := filepath.EvalSymlinks(mount)
	if err != nil {
		return nil, errors.Join(err, top.Close())
	}
	return &Source{Folder: top, seenAt: []string{mount, real}}, nil
}

// Open opens a file or directory of the share by its path without links.
func (s *Source) Open(rel string) (*os.File, error) { return s.OpenFile(rel, os.O_RDONLY, 0) }

// Resolve returns the path of rel on the share without links, as
// [beneath.Resolve] does. An error may contain the path of a missing file.
func (s *Source) Resolve(rel string, t *OpTimer) (string, error) {
	return beneath.Resolve(timedLinks{s.Root, t}, s.seenAt, rel)
}

// Lstat returns information about a file or link on the share.
func (s *Source) Lstat(rel string, t *OpTimer) (fs.FileInfo, error) {
	return timedLinks{s.Root, t}.Lstat(rel)
}

// timedLinks is a LinkReader that times its operations.
type timedLinks struct {
	beneath.LinkReader
	t *OpTimer
}

func (r timedLinks) Lstat(name string) (fs.FileInfo, error) {
	r.t.Begin(&opStat, &name)
	defer r.t.End()
	return r.LinkReader.Lstat(name)
}

func (r timedLinks) Readlink(name string) (string, error) {
	r.t.Begin(&opStat, &name)
	defer r.t.End()
	return r.LinkReader.Readlink(name)
}
