package beneath

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"
)

// enterFlags are the flags of Folder.Enter.
const enterFlags = unix.O_PATH | unix.O_DIRECTORY

// open opens a file below at. The kernel follows no link and lets no path lead
// out (openat2(2), Linux 5.6). Where that call is missing, or a container forbids
// it, os.Root does the same more slowly.
func open(at Folder, rel string, flags int, perm fs.FileMode) (*os.File, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC | unix.O_NOFOLLOW),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	existing := flags&(os.O_CREATE|unix.O_PATH) == 0
	if existing {
		how.Flags |= unix.O_NOCTTY | unix.O_NONBLOCK // a FIFO may have replaced the file
	}
	if flags&os.O_CREATE != 0 {
		how.Mode = uint64(perm.Perm())
	}
	for {
		fd, err := unix.Openat2(int(at.Dir.Fd()), rel, &how)
		switch {
		case err == nil:
			if existing { // with O_NONBLOCK, os.NewFile would poll the file, also on a share
				_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags) // cannot fail on an open file
			}
			return os.NewFile(uintptr(fd), rel), nil
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN): // the kernel breaks another process's lease on the file
			time.Sleep(time.Millisecond)
			continue
		case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM):
			return at.Root.OpenFile(path.Join(at.Path, rel), flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, perm)
		}
		return nil, &fs.PathError{Op: "open", Path: rel, Err: err}
	}
}
