//go:build unix

package policy

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/kirizan/kitt-agent/fault"
)

// marker is a directory that every storage makes in its own; see package storage.
const marker = ".kitt/copies"

// OpenStorageDir opens the storage directory of that name, and makes it if create is
// set. It returns the directory and its path without links. The error matches
// fs.ErrNotExist if there is no such directory, and is a [*fault.Error] if the
// policy refuses it.
func (p Policy) OpenStorageDir(name string, create bool) (root *os.Root, at string, err error) {
	name = p.expand(name)
	if err := p.checkStorageName(name); err != nil {
		return nil, "", err
	}
	if create {
		if err := p.makeStorageDir(name); err != nil {
			return nil, "", err
		}
	}
	root, at, err = open(name)
	if err != nil || p.isOwnStorage(name) {
		return root, at, err
	}
	if err := p.checkStorage(name, at, root); err != nil {
		return nil, "", errors.Join(err, root.Close())
	}
	return root, at, nil
}

// CheckStorageDir returns why the server may not choose a storage directory: its
// name, where its links lead, or what is in it.
func (p Policy) CheckStorageDir(name string) error {
	name = p.expand(name)
	if p.isOwnStorage(name) {
		return nil
	}
	root, _, err := p.OpenStorageDir(name, false)
	if errors.Is(err, fs.ErrNotExist) {
		root, _, err = p.openParent(name)
	}
	if err != nil {
		return refused(name, err)
	}
	return root.Close()
}

// refused returns err as a refusal, unless it is one.
func refused(name string, err error) error {
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	return fault.New(Class, "look at "+name, "the directory cannot be used: %w", err)
}

// open opens a directory and returns its path without links: that of what is open,
// also if somebody replaces a link meanwhile.
func open(name string) (*os.Root, string, error) {
	at, err := filepath.EvalSymlinks(name)
	if err != nil {
		return nil, "", err
	}
	root, err := os.OpenRoot(at)
	if err != nil {
		return nil, "", err
	}
	dir, err := root.Open(".")
	if err != nil {
		return nil, "", errors.Join(err, root.Close())
	}
	held, err := pathOf(dir, at)
	if err = errors.Join(err, dir.Close()); err != nil {
		return nil, "", errors.Join(err, root.Close())
	}
	return root, held, nil
}

// checkStorage returns why the server may not choose the directory root, which is at
// the path at and was named name.
func (p Policy) checkStorage(name, at string, root *os.Root) error {
	err := p.resolved().storagePlace(at)
	if err != nil && at != name {
		err = fmt.Errorf("it leads to %s: %w", at, err)
	}
	if err == nil {
		err = checkContent(root)
	}
	if err != nil {
		return refuse("storage_dirs", []string{name}, "%w", err)
	}
	return nil
}

// checkContent returns why a directory is not one for models: it belongs to another
// user, or has other files in it.
func checkContent(root *os.Root) error {
	info, err := root.Stat(".")
	if err != nil {
		return err
	}
	if !ownedBy(info, os.Geteuid()) {
		return errors.New("it belongs to another user")
	}
	if mark, err := root.Lstat(marker); err == nil && mark.IsDir() && ownedBy(mark, os.Geteuid()) {
		return nil
	}
	dir, err := root.Open(".")
	if err != nil {
		return err
	}
	names, err := dir.Readdirnames(2)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	names = slices.DeleteFunc(names, func(name string) bool { return name == "lost+found" })
	if err == nil && len(names) > 0 {
		err = errors.New("it holds files that the agent did not put there")
	}
	return errors.Join(err, dir.Close())
}

func ownedBy(info fs.FileInfo, uid int) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == uid
}

// makeStorageDir makes a storage directory unless it is there. What it makes is below
// a directory that it holds open, so that no link can lead elsewhere meanwhile.
func (p Policy) makeStorageDir(name string) error {
	if p.isOwnStorage(name) {
		return os.MkdirAll(name, 0o755)
	}
	if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	parent, rel, err := p.openParent(name)
	if err != nil {
		return err
	}
	return errors.Join(parent.MkdirAll(rel, 0o755), parent.Close())
}

// openParent opens the innermost directory above name that exists, and returns the
// rest of name. It refuses one in which the server may not have directories made:
// only the agent's user and root can change what is in it.
func (p Policy) openParent(name string) (parent *os.Root, rel string, err error) {
	above := path.Dir(name)
	for {
		parent, at, err := open(above)
		if errors.Is(err, fs.ErrNotExist) && above != "/" {
			above = path.Dir(above)
			continue
		}
		if err != nil {
			return nil, "", err
		}
		rel = strings.TrimPrefix(strings.TrimPrefix(name, above), "/")
		if err := p.checkParent(name, at, rel, parent); err != nil {
			return nil, "", errors.Join(err, parent.Close())
		}
		return parent, rel, nil
	}
}

// checkParent returns why the server may not have rel made in the directory parent,
// which is at the path at.
func (p Policy) checkParent(name, at, rel string, parent *os.Root) error {
	target := path.Join(at, rel)
	err := p.resolved().storagePlace(target)
	if err != nil && target != name {
		err = fmt.Errorf("it leads to %s: %w", target, err)
	}
	if err == nil {
		var info fs.FileInfo
		first, _, _ := strings.Cut(rel, "/")
		if _, err := parent.Lstat(first); err == nil {
			return refuse("storage_dirs", []string{name}, "the link %s in it leads to nothing", first)
		}
		if info, err = parent.Stat("."); err == nil && !ownedBy(info, os.Geteuid()) && !ownedBy(info, 0) {
			err = errors.New("the directory above it belongs to another user")
		}
	}
	if err != nil {
		return refuse("storage_dirs", []string{name}, "%w", err)
	}
	return nil
}
