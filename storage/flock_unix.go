//go:build unix

package storage

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// tryLock takes the exclusive lock on f if it is free (flock(2)). The kernel
// releases it when the last descriptor of f is closed, so a dead process holds
// none.
func tryLock(f *os.File) (bool, error) { return flock(f, unix.LOCK_EX) }

// isUnlocked reports whether the lock on f is free. It takes a shared lock, so
// that two processes which ask at the same time don't see each other as the owner.
func isUnlocked(f *os.File) (bool, error) { return flock(f, unix.LOCK_SH) }

func flock(f *os.File, how int) (bool, error) {
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EWOULDBLOCK):
			return false, nil
		}
		return false, &os.PathError{Op: "flock", Path: f.Name(), Err: err}
	}
}
