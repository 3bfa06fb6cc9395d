//go:build unix

package preflight

import "golang.org/x/sys/unix"

// unixModes is true if a file's mode tells which users can read it.
const unixModes = true

// freeSpace returns the free bytes on the file system of dir that this user may
// use.
func freeSpace(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}
