package selfupdate

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Suffixes next to the program's name.
const (
	previousSuffix = ".previous"
	stageInfix     = ".update-" // after a dot and the name, before something random
)

// ErrBusy is matched by the error of an update while another one is at work.
var ErrBusy = errors.New("another update is at work")

// An Install is an installed program, held against other updates until Close.
type Install struct {
	path string
	dir  *os.File // open for as long as its lock is held
}

// Open takes the program at path, which may be a link to it, and removes what
// an update that died has left next to it. The error matches [ErrBusy] if
// another update has it, and says what to do if this user can't replace it.
func Open(path string) (*Install, error) {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, fmt.Errorf("find the installed program: %w", err)
	}
	parent := filepath.Dir(path)
	if err := unix.Access(parent, unix.W_OK); err != nil {
		return nil, fmt.Errorf("this user may not write to %s (%w); run the command with sudo", parent, err)
	}
	dir, err := os.Open(parent)
	if err != nil {
		return nil, err
	}
	in := &Install{path: path, dir: dir}
	if err := in.lock(); err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	if err := in.sweep(); err != nil {
		return nil, errors.Join(err, in.Close())
	}
	return in, nil
}

func (in *Install) lock() error {
	for {
		err := unix.Flock(int(in.dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EWOULDBLOCK):
			return fmt.Errorf("%w: it holds %s; wait for its end", ErrBusy, in.dir.Name())
		case err != nil:
			return fmt.Errorf("lock %s: %w", in.dir.Name(), err)
		}
		return nil
	}
}

// Close lets go of the program. It may be called more than once.
func (in *Install) Close() error {
	if err := in.dir.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// Path returns where the program is, with no link in it.
func (in *Install) Path() string { return in.path }

// Previous returns where the program before it is kept.
func (in *Install) Previous() string { return in.path + previousSuffix }

// stagePrefix is what the names of unfinished files begin with.
func (in *Install) stagePrefix() string { return "." + filepath.Base(in.path) + stageInfix }

// sweep removes unfinished files. With the lock held they are nobody's.
func (in *Install) sweep() error {
	names, err := in.dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, in.stagePrefix()) {
			if err := os.Remove(filepath.Join(filepath.Dir(in.path), name)); err != nil {
				return fmt.Errorf("remove what an earlier update left: %w", err)
			}
		}
	}
	return nil
}

// Stage makes a file next to the program, has write fill it, and returns its
// path once it is on the disk, executable. Nothing stays behind on an error.
func (in *Install) Stage(write func(f *os.File) error) (path string, err error) {
	f, err := os.CreateTemp(filepath.Dir(in.path), in.stagePrefix())
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	mode := fs.FileMode(0o755)
	if info, statErr := os.Stat(in.path); statErr == nil {
		mode = info.Mode().Perm() | 0o100
	}
	if err := errors.Join(write(f), f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return "", err
	}
	return f.Name(), nil
}

// Discard removes a staged file.
func (in *Install) Discard(staged string) error { return os.Remove(staged) }

// Swap puts a staged program in place of the installed one, which is kept as
// [Install.Previous]. Both are on the disk when it returns.
func (in *Install) Swap(staged string) error {
	if err := in.keep(in.path, in.Previous()); err != nil {
		return fmt.Errorf("keep the installed program: %w", err)
	}
	if err := os.Rename(staged, in.path); err != nil {
		return fmt.Errorf("put the new program in place: %w", err)
	}
	return in.dir.Sync()
}

// ErrNoPrevious is matched by the error of Rollback where there is nothing to
// go back to.
var ErrNoPrevious = errors.New("there is no program from before an update")

// Rollback exchanges the installed program and the one before it, so a second
// call undoes the first.
func (in *Install) Rollback() error {
	if _, err := os.Stat(in.Previous()); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s is missing", ErrNoPrevious, in.Previous())
	}
	if err := in.exchange(); err != nil {
		return fmt.Errorf("go back to %s: %w", in.Previous(), err)
	}
	return in.dir.Sync()
}

// Undo puts the program from before the last swap back and drops the one that
// took its place.
func (in *Install) Undo() error {
	if err := os.Rename(in.Previous(), in.path); err != nil {
		return fmt.Errorf("put the program from before back: %w", err)
	}
	return in.dir.Sync()
}

// exchange exchanges the two programs. It takes several steps, as not every file
// system can do it in one; after each there is a whole program at path.
func (in *Install) exchange() error {
	next := filepath.Join(filepath.Dir(in.path), in.stagePrefix()+"next")
	if err := in.keep(in.Previous(), next); err != nil {
		return err
	}
	if err := in.keep(in.path, in.Previous()); err != nil {
		return err
	}
	return os.Rename(next, in.path)
}

// keep gives the file at path a second name, in place of what may have it.
func (in *Install) keep(path, name string) error {
	temp := filepath.Join(filepath.Dir(in.path), in.stagePrefix()+"keep")
	if err := os.Link(path, temp); err != nil {
		// Not every file system knows links, and not every user may make them.
		if err := duplicate(path, temp); err != nil {
			return err
		}
	}
	if err := os.Rename(temp, name); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	// Where both were links to one file the rename has done nothing (rename(2)).
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// duplicate copies a file and its mode to a new one and syncs it.
func duplicate(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return errors.Join(err, os.Remove(to))
	}
	return nil
}
