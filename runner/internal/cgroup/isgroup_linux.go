package cgroup

import "golang.org/x/sys/unix"

// isGroup reports whether path lies in a file system of control groups of version 2.
func isGroup(path string) (bool, error) {
	var fs unix.Statfs_t
	err := unix.Statfs(path, &fs)
	return err == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC, err
}
