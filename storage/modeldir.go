package storage

import (
	"context"
	"encoding/hex"
	"errors"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/zeebo/xxh3"

	"github.com/kirizan/kitt-agent/storage/internal/beneath"
)

// A modelDir is one storage directory. Its state is in files in its directory
// .kitt, so that it survives restarts and is shared by all agents on the host that
// use the directory:
//
//	lock               held (flock) for every change of the files below
//	copies/KEY.jsonl   the manifest of a copy; its mtime is when the copy was last used
//	copies/KEY.synced  the copy is known to be durable
//	copies/KEY.gone    the manifest of a copy that is being removed
//	leases/KEY.HOLDER  a lease
//	claims/KEY         a copy that is being made, locked meanwhile, and the space
//	                   that it still needs
//	tmp/RANDOM         a manifest or lease before its rename, locked while written
//
// A manifest appears before its copy and disappears before it. So a directory
// without a manifest is not the storage's.
//
// Under the lock there are only lookups, renames, and removals and unsynced writes
// of single small files. Whatever can take long happens outside of it: a file is
// written and fsynced in tmp and then renamed; a copy is renamed out of sight and
// then deleted.
type modelDir struct {
	name string // as configured
	dir  string // absolute, without links
	root *os.Root
	disk disk

	copies copyStore
	leases leaseStore
	claims claimStore
	tmp    tmpDir

	locking chan struct{} // holds a value while this process waits for the lock or holds it
}

// A disk is the operations that can take long, for tests to replace.
type disk struct {
	removeAll      func(path string) error
	sync           func(f *os.File) error
	syncFileSystem func(f *os.File) error
}

// syncAround writes everything in a file's file system to disk.
func (d disk) syncAround(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.syncFileSystem(f), f.Close())
}

var realDisk = disk{removeAll: os.RemoveAll, sync: (*os.File).Sync, syncFileSystem: syncFileSystem}

// newModelDir returns the storage directory root, configured as name, which is at
// dir.
func newModelDir(name, dir string, root *os.Root, d disk) *modelDir {
	own := filepath.Join(dir, ownDir)
	return &modelDir{
		name: name, dir: dir, root: root, disk: d,
		copies:  copyStore{dir: filepath.Join(own, "copies"), root: root},
		leases:  leaseStore{dir: filepath.Join(own, "leases")},
		claims:  claimStore{dir: filepath.Join(own, "claims")},
		tmp:     tmpDir{dir: filepath.Join(own, "tmp"), sync: d.sync},
		locking: make(chan struct{}, 1),
	}
}

// isCurrent reports whether name still leads to this directory. It may have been
// replaced, or a disk mounted over it.
func (d *modelDir) isCurrent() bool {
	opened, err := d.root.Stat(".")
	if err != nil {
		return false
	}
	named, err := os.Stat(d.name)
	return err == nil && os.SameFile(opened, named)
}

// setUp makes the storage's own directories.
func (d *modelDir) setUp() error {
	for _, name := range []string{"copies", "leases", "claims", "tmp"} {
		if err := d.root.MkdirAll(path.Join(ownDir, name), 0o755); err != nil {
			return unwritable(d.dir, "written", err)
		}
	}
	return nil
}

// isSetUp reports whether anything was ever copied here.
func (d *modelDir) isSetUp() bool {
	_, err := d.root.Lstat(ownDir + "/copies")
	return err == nil
}

// unwritable returns the error for a directory that cannot be, say, locked.
func unwritable(dir, what string, err error) error {
	return &Error{Class: ClassUnreadable, Text: "the storage directory " + dir + " cannot be " + what + ": " + err.Error(),
		Fix: "give the agent's user write access to it", Err: err}
}

// abs returns the absolute path of something in the storage directory.
func (d *modelDir) abs(rel string) string { return filepath.Join(d.dir, rel) }

// stage returns where a copy is made: next to where it will be.
func (d *modelDir) stage(rel string) string {
	return d.abs(path.Join(path.Dir(rel), partPrefix+keyOf(rel)))
}

// trash returns where a copy is moved before it is deleted.
func (d *modelDir) trash(rel string) string {
	return d.abs(path.Join(path.Dir(rel), gonePrefix+keyOf(rel)))
}

// resolve returns the path without links of something in the storage directory.
func (d *modelDir) resolve(rel string) (string, error) {
	return beneath.Resolve(d.root, []string{d.dir, d.name}, rel)
}

// locked calls f while this process holds the lock of the directory. It returns
// f's error, the cause of ctx's end, or an [Error].
func (d *modelDir) locked(ctx context.Context, f func() error) error {
	unlock, err := d.lock(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return unwritable(d.dir, "locked", err)
	}
	defer unlock()
	return f()
}

// keyOf returns the name of the copy at rel in names of files.
func keyOf(rel string) string {
	sum := xxh3.HashString128(rel).Bytes()
	return hex.EncodeToString(sum[:])
}

// isOurs reports whether a name in the storage directory is one of the storage's.
func isOurs(name string) bool {
	return name == ownDir || strings.HasPrefix(name, partPrefix) || strings.HasPrefix(name, gonePrefix)
}
