package supervisor

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// A Dir is a run's directory as the agent reads it. Nothing in it is trusted: a
// container may have made every file. Files are opened relative to the held
// directory, through no link and without waiting, and only regular ones with one
// name are read. Its methods are safe for concurrent use.
type Dir struct{ file *os.File }

// OpenDir opens the run's directory, which is held until Close. The directories
// above it are trusted.
func OpenDir(path string) (*Dir, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return &Dir{os.NewFile(uintptr(fd), path)}, nil
}

// Close releases the directory.
func (d *Dir) Close() error { return d.file.Close() }

// Path returns the path that the directory was opened by.
func (d *Dir) Path() string { return d.file.Name() }

// errNotPlain is the error for a file that the supervisor can't have made.
var errNotPlain = errors.New("it is not a plain file with one name")

// Open opens one file in the directory for reading. The error matches
// [os.ErrNotExist] if there is none.
func (d *Dir) Open(name string) (*os.File, error) {
	fd, err := unix.Openat(int(d.file.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: d.Path() + "/" + name, Err: err}
	}
	f := os.NewFile(uintptr(fd), d.Path()+"/"+name)
	var stat unix.Stat_t
	if err = unix.Fstat(fd, &stat); err == nil && (stat.Mode&unix.S_IFMT != unix.S_IFREG || stat.Nlink != 1) {
		err = errNotPlain
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", f.Name(), err), f.Close())
	}
	return f, nil
}

// read returns the whole of a small file.
func (d *Dir) read(name string) ([]byte, error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxState+1))
	if err == nil && len(text) > maxState {
		err = fmt.Errorf("%s: it has more than %d bytes", f.Name(), maxState)
	}
	return text, err
}

// Claim returns who runs the benchmark. That it was not claimed is no error.
func (d *Dir) Claim() (c Claim, found bool, err error) { return readState[Claim](d, ClaimFile) }

// Exit returns how the benchmark ended. That nothing says so is no error. The
// Exit is believed about this one job and holds nothing else.
func (d *Dir) Exit() (e Exit, found bool, err error) {
	e, found, err = readState[Exit](d, ExitFile)
	if found {
		e = e.plausible()
	}
	return e, found, err
}

// Claimed reports whether the benchmark was begun, be the claim readable or not.
func (d *Dir) Claimed() (bool, error) {
	for _, name := range []string{ClaimFile, ExitFile} {
		var stat unix.Stat_t
		err := unix.Fstatat(int(d.file.Fd()), name, &stat, unix.AT_SYMLINK_NOFOLLOW)
		if !errors.Is(err, unix.ENOENT) {
			return err == nil, err
		}
	}
	return false, nil
}

func readState[T interface{ version() int }](d *Dir, name string) (v T, found bool, err error) {
	text, err := d.read(name)
	if errors.Is(err, os.ErrNotExist) {
		return v, false, nil
	}
	if err == nil {
		v, err = decode[T](name, text)
	}
	return v, err == nil, err
}

// Held reports whether a supervisor holds the run's lock. It is false too where
// the lock can't be seen, as through the file system of a virtual machine.
//
// It takes the lock for a moment, so a supervisor must have it, or have claimed
// the run, before: one that is about to start would think that it is late.
func (d *Dir) Held() (bool, error) {
	lock, err := d.probeLock()
	return lock == lockHeld, err
}

// Free reports whether the run's lock is there and nobody holds it. It is false where
// that can't be told, as on a file system without locks. What Held says about when to
// call it holds here too.
func (d *Dir) Free() (bool, error) {
	lock, err := d.probeLock()
	return lock == lockFree, err
}

// lockState is what can be seen of a run's lock.
type lockState int

const (
	lockUnknown lockState = iota // there is none, or it can't be told who holds it
	lockHeld
	lockFree
)

func (d *Dir) probeLock() (lockState, error) {
	f, err := d.Open(LockFile)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, errNotPlain) {
		return lockUnknown, nil
	}
	if err != nil {
		return lockUnknown, err
	}
	defer f.Close() // which unlocks it
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	switch {
	case err == nil:
		return lockFree, nil
	case errors.Is(err, unix.EWOULDBLOCK):
		return lockHeld, nil
	case errors.Is(err, unix.ENOLCK), errors.Is(err, unix.EOPNOTSUPP):
		return lockUnknown, nil
	}
	return lockUnknown, err
}
