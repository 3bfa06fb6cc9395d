package supervisor

import (
	"os"

	"golang.org/x/sys/unix"
)

// mark tells the supervisor that the output before offset was read: the rest of
// the file stays locked for reading, which hinders nobody who writes. A file
// system without such locks tells it nothing.
func mark(out *os.File, offset int64) {
	lock := unix.Flock_t{Type: unix.F_RDLCK, Whence: 0, Start: offset}
	if unix.FcntlFlock(out.Fd(), unix.F_OFD_SETLK, &lock) != nil || offset == 0 {
		return
	}
	lock = unix.Flock_t{Type: unix.F_UNLCK, Whence: 0, Len: offset}
	_ = unix.FcntlFlock(out.Fd(), unix.F_OFD_SETLK, &lock)
}
