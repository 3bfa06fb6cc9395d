//go:build unix

package storage

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// diskSpace returns how many bytes of the file system at dir are free for this
// user and how many are used (statfs(2)).
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

// futureDiskSpace is diskSpace for a directory that may not exist yet.
func futureDiskSpace(dir string) (free, used int64, err error) {
	for {
		free, used, err = diskSpace(dir)
		if !errors.Is(err, fs.ErrNotExist) || dir == "/" || dir == "." {
			return free, used, err
		}
		dir = filepath.Dir(dir)
	}
}
