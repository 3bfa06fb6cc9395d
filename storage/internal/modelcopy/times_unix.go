//go:build unix

package modelcopy

import (
	"os"

	"golang.org/x/sys/unix"
)

// setTimes sets the modification time of a file or directory below dir, in
// nanoseconds since 1970.
func setTimes(dir *os.File, rel string, mtime int64) error {
	ts := unix.NsecToTimespec(mtime)
	err := unix.UtimesNanoAt(int(dir.Fd()), rel, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return &os.PathError{Op: "utimensat", Path: rel, Err: err}
	}
	return nil
}
