//go:build unix

package storage

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// tryLock takes the exclusive lock on f if it is free (flock(2)). It ends with
// the last descriptor of f, so a dead process holds none.
func tryLock(f *os.File) (bool, error) { return flock(f, unix.LOCK_EX) }

// tryShared tells whether somebody holds the lock on f: those who ask at the same
// time are not taken for one who does.
func tryShared(f *os.File) (bool, error) { return flock(f, unix.LOCK_SH) }

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

// diskSpace returns how much of the file system at dir is free for this user
// and how much is used, in bytes (statfs(2)).
func diskSpace(dir string) (free, used int64, err error) {
	var st unix.Statfs_t
	for {
		err = unix.Statfs(dir, &st)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return 0, 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	size := int64(st.Bsize)
	return int64(st.Bavail) * size, (int64(st.Blocks) - int64(st.Bfree)) * size, nil
}

// setTimes gives a file or directory below dir its modification time.
func setTimes(dir *os.File, rel string, mtime int64) error {
	ts := unix.NsecToTimespec(mtime)
	err := unix.UtimesNanoAt(int(dir.Fd()), rel, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return &os.PathError{Op: "utimensat", Path: rel, Err: err}
	}
	return nil
}
