package modelcopy

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// reflink makes dst share the blocks of src and reports whether the file system
// can do that (ioctl_ficlone(2)).
func reflink(dst, src *os.File) bool {
	return unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())) == nil
}

// linkFile gives the open file src another name in dir and reports whether that is
// possible (linkat(2)).
func linkFile(src, dir *os.File, name string) bool {
	return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", src.Fd()), int(dir.Fd()), name, unix.AT_SYMLINK_FOLLOW) == nil
}

// preallocate reserves a file's space in one piece and reports whether the file
// system can do that. It returns an error only if there is no space.
func preallocate(f *os.File, size int64) (bool, error) {
	err := unix.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return false, &fs.PathError{Op: "fallocate", Path: f.Name(), Err: err}
	}
	return err == nil, nil
}

// punchHole makes a range of f a hole and reports whether the file system can do
// that (fallocate(2)).
func punchHole(f *os.File, off, n int64) bool {
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n) == nil
}

// nextData returns the offset of the first data at or after off, or size if there
// is none. On a file system that cannot tell, everything is data.
func nextData(f *os.File, off, size int64) int64 {
	at, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return size
	case err != nil:
		return off
	}
	return at
}

// dataBytes returns how many bytes of f are not in holes.
func dataBytes(f *os.File, size int64) int64 {
	var sum int64
	for off := int64(0); off < size; {
		off = nextData(f, off, size)
		if off >= size {
			break
		}
		hole, err := unix.Seek(int(f.Fd()), off, unix.SEEK_HOLE)
		if err != nil || hole <= off {
			return size
		}
		sum += min(hole, size) - off
		off = hole
	}
	return sum
}

// isRemote reports whether a directory is on a file system other than the
// well-known local ones (statfs(2)).
func isRemote(dir *os.File) bool {
	var st unix.Statfs_t
	if unix.Fstatfs(int(dir.Fd()), &st) != nil {
		return true
	}
	switch int64(st.Type) {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC,
		unix.TMPFS_MAGIC, unix.OVERLAYFS_SUPER_MAGIC, 0x2fc12fc1: // the last is ZFS
		return false
	}
	return true
}

// adviseReadahead turns readahead off for a network, where reads are large and
// parallel anyway, and enlarges it for a local disk.
func adviseReadahead(f *os.File, remote bool) {
	how := unix.FADV_SEQUENTIAL
	if remote {
		how = unix.FADV_RANDOM
	}
	_ = unix.Fadvise(int(f.Fd()), 0, 0, how) // only advice
}

// inCache reports whether half of a range of f or more may be in the page cache
// (cachestat(2), Linux 6.5). Older kernels cannot tell, nor can overlayfs, whose
// files are in the cache of the layer below.
func inCache(f *os.File, off, n int64) bool {
	var on unix.Statfs_t
	if unix.Fstatfs(int(f.Fd()), &on) != nil || int64(on.Type) == unix.OVERLAYFS_SUPER_MAGIC {
		return true
	}
	var in unix.Cachestat_t
	err := unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{Off: uint64(off), Len: uint64(n)}, &in, 0)
	return err != nil || int64(in.Cache)*int64(os.Getpagesize()) >= n/2
}

// setDirect switches direct reads of f on or off and reports whether they are
// on. On a network they also prevent that another client's open makes us read the
// same data twice.
func setDirect(f *os.File, on bool) bool {
	flags := 0 // those of a file that is open for reading
	if on {
		flags = unix.O_DIRECT
	}
	_, err := unix.FcntlInt(f.Fd(), unix.F_SETFL, flags)
	return on && err == nil
}

// dropCache tells the kernel that a range will not be needed again.
func dropCache(f *os.File, off, n int64) {
	_ = unix.Fadvise(int(f.Fd()), off, n, unix.FADV_DONTNEED) // only advice
}

// startWriteback starts writing a range to disk without waiting for it, so that
// dropCache can drop it later.
func startWriteback(f *os.File, off, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE) // only an optimization
}

// memoryTotal returns the machine's RAM in bytes (sysinfo(2)).
func memoryTotal() int64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return int64(info.Totalram) * int64(info.Unit)
}
