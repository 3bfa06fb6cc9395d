//go:build unix

package results

import (
	"errors"
	"os"
	"syscall"
)

// owner returns the user and the group that own a file.
func owner(path string) (uid, gid int, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, 0, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, errors.New("the owner is unknown")
	}
	return int(st.Uid), int(st.Gid), nil
}
