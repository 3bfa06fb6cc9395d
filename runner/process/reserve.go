package process

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A benchmark whose output cannot be written ends with an error, so a disk that
// somebody fills would end it. Room for its output is therefore kept in reserve:
// blocks behind the end of the file, which nobody else gets.
const (
	reserveMost  = 64 << 20 // bytes
	reserveLeast = 1 << 20  // less isn't worth a file's extent
	reserveShare = 8        // at most one part in so many of what is free

	// reserveEvery is how often the reserve is looked at. In this time a
	// benchmark may print what it is topped up at, half of it.
	reserveEvery = 5 * time.Second
)

// reserve sees to it that there is room for more output behind the end of out,
// as far as the disk and its file system let it.
func reserve(out *os.File) {
	var file unix.Stat_t
	var disk unix.Statfs_t
	fd := int(out.Fd())
	if unix.Fstat(fd, &file) != nil || unix.Fstatfs(fd, &disk) != nil {
		return
	}
	const block = 512 // the unit of st_blocks, stat(2)
	kept := max(0, file.Blocks*block-file.Size)
	if kept >= reserveMost/2 {
		return
	}
	free := int64(min(disk.Bavail, 1<<40)) * disk.Bsize
	for n := min(reserveMost, kept+free/reserveShare); n > kept && n >= reserveLeast; n /= 2 {
		if unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, file.Size, n) == nil {
			return
		}
	}
}

// keepReserve tops the reserve of out up until done is closed.
func keepReserve(out *os.File, done <-chan struct{}) {
	tick := time.NewTicker(reserveEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			reserve(out)
		case <-done:
			return
		}
	}
}

// giveBack frees the reserve of a file that nobody writes to any more.
func giveBack(out *os.File) {
	if info, err := out.Stat(); err == nil {
		_ = out.Truncate(info.Size()) // otherwise it goes with the file
	}
}
