package storage

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/storage/internal/iofault"
)

// A copyStore is the directory of manifests, and so the list of the storage's
// copies.
type copyStore struct {
	dir  string
	root *os.Root // the storage directory
}

func (s copyStore) manifest(rel string) string { return filepath.Join(s.dir, keyOf(rel)+".jsonl") }

// durable returns the marker of a copy that is known to be durable.
func (s copyStore) durable(rel string) string { return filepath.Join(s.dir, keyOf(rel)+".synced") }

// removing returns the name of the manifest of a copy that is being removed.
func (s copyStore) removing(rel string) string { return filepath.Join(s.dir, keyOf(rel)+".gone") }

// read reads a manifest's header. It returns nil if there is none that is
// complete.
func (s copyStore) read(name string) (*manifest, error) {
	m, err := readManifest(name, nil)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errManifest) || errors.Is(err, io.EOF) {
		return nil, nil
	}
	return m, err
}

// at returns the manifest of the copy at rel. It returns nil if there is none, or
// if something else is in the copy's place.
func (s copyStore) at(rel string) (*manifest, error) {
	m, err := s.read(s.manifest(rel))
	if err != nil || m == nil || m.Path != rel || !s.holds(m) {
		return nil, err
	}
	return m, nil
}

// around returns the copy that rel is, or is inside of.
func (s copyStore) around(rel string) (*manifest, error) {
	for at := rel; at != "."; at = path.Dir(at) {
		m, err := s.at(at)
		if m != nil || err != nil {
			return m, err
		}
	}
	return nil, nil
}

// all lists the copies by path.
func (s copyStore) all() ([]*manifest, error) {
	names, err := readDir(s.dir)
	if err != nil {
		return nil, err
	}
	var all []*manifest
	for _, e := range names {
		if !strings.HasSuffix(e.Name(), ".jsonl") {
			continue
		}
		m, err := s.read(filepath.Join(s.dir, e.Name()))
		if err != nil {
			return nil, err
		}
		if m != nil && keyOf(m.Path)+".jsonl" == e.Name() && s.holds(m) {
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b *manifest) int { return strings.Compare(a.Path, b.Path) })
	return all, nil
}

// requested returns the path of the copy that was made for a request of that text,
// or an empty string.
func (s copyStore) requested(text string) (string, error) {
	all, err := s.all()
	if err != nil {
		return "", iofault.Explain("list the copies in", s.root.Name(), err)
	}
	for _, m := range all {
		if slices.Contains(m.Requests, rawText(text)) {
			return m.Path, nil
		}
	}
	return "", nil
}

// holds reports whether m's copy is where m says. It compares inodes. An overlayfs
// with layers on several disks sometimes renumbers its directories, but never its
// files.
func (s copyStore) holds(m *manifest) bool {
	info, err := s.root.Lstat(m.Path)
	if err != nil || info.Mode()&fs.ModeSymlink != 0 {
		return false
	}
	if inodeOf(info) == m.Inode || m.FileInode == 0 {
		return inodeOf(info) == m.Inode
	}
	file, err := s.root.Lstat(path.Join(m.Path, string(m.File)))
	return err == nil && inodeOf(file) == m.FileInode
}

// touch records that a copy is used now.
func (s copyStore) touch(rel string) error {
	now := time.Now()
	return os.Chtimes(s.manifest(rel), now, now)
}
