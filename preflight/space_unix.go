//go:build unix

package preflight

import "golang.org/x/sys/unix"

// unixModes says whether a file's mode tells who may read it.
const unixModes = true

// freeSpace returns the bytes on the file system of dir that this user may fill.
func freeSpace(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}
