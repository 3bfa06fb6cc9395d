package storage

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// openPath are the flags of folder.enter.
const openPath = unix.O_PATH | unix.O_DIRECTORY

// openBeneath opens a file below at. The kernel follows no link on the way and
// lets nothing lead out (openat2(2), Linux 5.6); where there is no such call, or
// a container forbids it, os.Root finds its slower way.
func openBeneath(at folder, rel string, flags int, perm fs.FileMode) (*os.File, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC | unix.O_NOFOLLOW),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	foreign := flags&(os.O_CREATE|unix.O_PATH) == 0
	if foreign {
		how.Flags |= unix.O_NOCTTY | unix.O_NONBLOCK // the second against a FIFO put in the file's place
	}
	if flags&os.O_CREATE != 0 {
		how.Mode = uint64(perm.Perm())
	}
	for {
		fd, err := unix.Openat2(int(at.dir.Fd()), rel, &how)
		switch {
		case err == nil:
			if foreign { // left on, os.NewFile would ask the share to poll the file
				_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags) // cannot fail on an open file
			}
			return os.NewFile(uintptr(fd), rel), nil
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN): // somebody's lease on the file is being broken
			time.Sleep(time.Millisecond)
			continue
		case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM):
			return at.root.OpenFile(path.Join(at.path, rel), flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, perm)
		}
		return nil, &fs.PathError{Op: "open", Path: rel, Err: err}
	}
}

// lstatAt looks at a file below at. fresh asks a network file system to ask its
// server (statx(2), AT_STATX_FORCE_SYNC).
func lstatAt(at folder, rel string, fresh bool) (meta, error) {
	if strings.Contains(rel, "/") {
		// A path of several components: os.Root keeps it from leading out.
		info, err := at.root.Lstat(path.Join(at.path, rel))
		if err != nil {
			return meta{}, err
		}
		return metaOf(info), nil
	}
	flags := unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	if fresh {
		flags |= unix.AT_STATX_FORCE_SYNC
	}
	var st unix.Statx_t
	for {
		err := unix.Statx(int(at.dir.Fd()), rel, flags, unix.STATX_BASIC_STATS, &st)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return meta{}, &fs.PathError{Op: "statx", Path: rel, Err: err}
		}
		break
	}
	return meta{
		stamp: stamp{
			mode: modeOf(uint32(st.Mode)), size: int64(st.Size),
			mtime: st.Mtime.Sec*int64(time.Second) + int64(st.Mtime.Nsec),
			ctime: st.Ctime.Sec*int64(time.Second) + int64(st.Ctime.Nsec),
		},
		allocated: int64(st.Blocks) * 512,
		dev:       unix.Mkdev(st.Dev_major, st.Dev_minor), ino: st.Ino, links: uint64(st.Nlink),
	}, nil
}

// modeOf translates stat(2)'s mode.
func modeOf(m uint32) fs.FileMode {
	mode := fs.FileMode(m & 0o777)
	switch m & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		mode |= fs.ModeDir
	case unix.S_IFLNK:
		mode |= fs.ModeSymlink
	default:
		mode |= fs.ModeIrregular
	}
	return mode
}

// metaOf takes what os.Stat found.
func metaOf(info fs.FileInfo) meta {
	m := meta{stamp: stamp{mode: info.Mode(), size: info.Size(), mtime: info.ModTime().UnixNano()}, allocated: info.Size(), links: 1}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		m.allocated = st.Blocks * 512
		m.ctime = st.Ctim.Nano()
		m.dev, m.ino, m.links = st.Dev, st.Ino, uint64(st.Nlink)
	}
	return m
}

// reflink makes dst share src's blocks, if the file system can
// (ioctl_ficlone(2)).
func reflink(dst, src *os.File) bool {
	return unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())) == nil
}

// preallocate reserves a file's space in one piece where the file system can, and
// reports whether it did; an error is returned only if there is no space.
func preallocate(f *os.File, size int64) (bool, error) {
	err := unix.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return false, &fs.PathError{Op: "fallocate", Path: f.Name(), Err: err}
	}
	return err == nil, nil
}

// punchHole makes a range of f a hole, if the file system can (fallocate(2)).
func punchHole(f *os.File, off, n int64) bool {
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n) == nil
}

// nextData returns where the next data at or after off begins, or size if there
// is none. A file system that cannot say has data everywhere.
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

// isRemote reports whether a directory is on anything but a well-known local
// file system (statfs(2)).
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

// advise keeps the kernel from reading ahead of what is asked of a network, which
// is large and in parallel anyway, and has it read further ahead on a local disk.
func advise(f *os.File, remote bool) {
	how := unix.FADV_SEQUENTIAL
	if remote {
		how = unix.FADV_RANDOM
	}
	_ = unix.Fadvise(int(f.Fd()), 0, 0, how) // only advice
}

// inCache reports whether the page cache has half of a range of f or more
// (cachestat(2), Linux 6.5), or may have: older kernels don't tell, nor does
// overlayfs, whose files are in the cache of what lies below it.
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
// on. On a network they also keep others who open the file from making us read
// again what we have read already.
func setDirect(f *os.File, on bool) bool {
	flags := 0 // those of an open file that was opened to read
	if on {
		flags = unix.O_DIRECT
	}
	_, err := unix.FcntlInt(f.Fd(), unix.F_SETFL, flags)
	return on && err == nil
}

// forget tells the kernel that a range will not be needed again.
func forget(f *os.File, off, n int64) {
	_ = unix.Fadvise(int(f.Fd()), off, n, unix.FADV_DONTNEED) // only advice
}

// writeBack begins to write a range to disk without waiting for it, so that it
// can be forgotten later.
func writeBack(f *os.File, off, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE) // only haste
}

// renameNew renames a file unless there is one at the new place.
func renameNew(oldPath, newPath string) error {
	err := unix.Renameat2(unix.AT_FDCWD, oldPath, unix.AT_FDCWD, newPath, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		// The file system cannot; we hold the storage's lock, and rename(2)
		// itself replaces no directory that has anything in it.
		if _, statErr := os.Lstat(newPath); statErr == nil {
			return &os.LinkError{Op: "rename", Old: oldPath, New: newPath, Err: fs.ErrExist}
		}
		return os.Rename(oldPath, newPath)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: oldPath, New: newPath, Err: err}
	}
	return nil
}

// syncAll writes everything in f's file system to disk (syncfs(2)).
func syncAll(f *os.File) error { return unix.Syncfs(int(f.Fd())) }

// bootID names this start of the machine, or is empty.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

// memoryTotal returns the machine's RAM in bytes (sysinfo(2)).
func memoryTotal() int64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return int64(info.Totalram) * int64(info.Unit)
}
