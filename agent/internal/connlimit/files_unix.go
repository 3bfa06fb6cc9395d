//go:build unix

package connlimit

import "syscall"

// openFiles returns how many files this process may open: getrlimit(2), RLIMIT_NOFILE.
func openFiles() (uint64, bool) {
	var limit syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	return uint64(limit.Cur), err == nil
}
