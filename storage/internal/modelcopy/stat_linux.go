package modelcopy

import (
	"errors"
	"io/fs"
	"path"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/storage/internal/beneath"
)

// lstatAt returns the metadata of a file below at. With fresh, a network file
// system asks its server rather than its cache (statx(2), AT_STATX_FORCE_SYNC).
func lstatAt(at beneath.Folder, rel string, fresh bool) (meta, error) {
	if strings.Contains(rel, "/") {
		// A path of several components: os.Root keeps it from leading out.
		info, err := at.Root.Lstat(path.Join(at.Path, rel))
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
		err := unix.Statx(int(at.Dir.Fd()), rel, flags, unix.STATX_BASIC_STATS, &st)
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

// modeOf translates the mode of stat(2).
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

// metaOf translates what os.Stat returns.
func metaOf(info fs.FileInfo) meta {
	m := meta{stamp: stamp{mode: info.Mode(), size: info.Size(), mtime: info.ModTime().UnixNano()}, allocated: info.Size(), links: 1}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		m.allocated = st.Blocks * 512
		m.ctime = st.Ctim.Nano()
		m.dev, m.ino, m.links = st.Dev, st.Ino, uint64(st.Nlink)
	}
	return m
}
