package supervisor

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A benchmark whose output cannot be written ends with an error, so a disk that
// somebody fills would end it. Room for its output is therefore kept in reserve:
// blocks behind the end of the file, which nobody else gets.
const (
	reserveMost   = 256 << 20 // bytes; giving more back takes over 10 ms
	reserveUsual  = 64 << 20  // however little is free, up to reserveShare of it
	reserveMemory = 64 << 20  // on a tmpfs, where it takes memory
	reserveLeast  = 1 << 20   // less isn't worth a file's extent
	reserveShare  = 8         // at most one part in so many of what is free
	reserveScale  = 64        // and this part where that is more than the usual
)

// The output is looked at every paceCalm, and in a flood every paceFlood, so
// that the reserve is topped up before it is used up.
const (
	paceCalm  = time.Second
	paceFlood = 50 * time.Millisecond
)

// readBehind is by how much what counts as read is behind what the agent has
// read, in bytes: its own file may not have all of it yet.
const readBehind = 1 << 20

// space keeps room for the output, frees what is not needed of it, and keeps the
// index. One goroutine uses it.
type space struct {
	dir   string
	out   *os.File
	limit int64

	reserve int64 // bytes that are kept free behind the end
	read    int64 // the agent has read up to here, as far as is known
	gaps    Gaps
	gapFile *os.File // nil where holes can't be made

	index     *os.File
	indexed   int64 // size in the last entry
	indexedAt time.Time
	size      int64 // at the last look
}

// newSpace makes the reserve. What the file system can't do is left out.
func newSpace(dir string, out *os.File, limit int64) *space {
	s := &space{dir: dir, out: out, limit: limit}
	s.index, _ = create(filepath.Join(dir, IndexFile), os.O_APPEND)
	s.makeGapFile()
	s.reserve = s.wanted()
	if file, ok := s.stat(); ok {
		s.fill(file)
	}
	return s
}

// makeGapFile makes gaps.json, if the file system can make holes. Its block is
// taken while there is one.
func (s *space) makeGapFile() {
	f, err := create(filepath.Join(s.dir, GapsFile), 0)
	if err != nil {
		return
	}
	fd := int(f.Fd())
	text, err := s.gaps.encode()
	if err == nil {
		_, err = f.WriteAt(text, 0)
	}
	if err == nil {
		err = unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE|unix.FALLOC_FL_PUNCH_HOLE, 2*gapsSize, gapsSize)
	}
	if err != nil {
		f.Close()
		_ = os.Remove(filepath.Join(s.dir, GapsFile))
		return
	}
	s.gapFile = f
}

// wanted returns how much room is to be kept, by what is free now.
func (s *space) wanted() int64 {
	var disk unix.Statfs_t
	if unix.Fstatfs(int(s.out.Fd()), &disk) != nil {
		return 0
	}
	free := freeBytes(disk)
	most := min(max(reserveUsual, free/reserveScale), reserveMost)
	if disk.Type == unix.TMPFS_MAGIC {
		most = reserveMemory
	}
	if s.limit > 0 {
		most = min(most, s.limit)
	}
	return max(min(most, free/reserveShare), reserveLeast)
}

func freeBytes(disk unix.Statfs_t) int64 {
	return int64(min(disk.Bavail, 1<<40)) * disk.Bsize
}

// close closes what newSpace opened.
func (s *space) close() {
	for _, f := range []*os.File{s.index, s.gapFile} {
		if f != nil {
			f.Close()
		}
	}
}

// keep keeps the reserve, the ceiling and the index until stop is called.
func (s *space) keep() (stop func()) {
	var keeping sync.WaitGroup
	done := make(chan struct{})
	keeping.Go(func() {
		pace := paceFlood
		timer := time.NewTimer(pace)
		defer timer.Stop()
		for {
			select {
			case <-timer.C:
			case <-done:
				s.look()
				return
			}
			if grown := s.look(); grown > s.reserve/16 {
				pace = paceFlood
			} else {
				pace = min(2*pace, paceCalm)
			}
			timer.Reset(pace)
		}
	})
	return func() {
		close(done)
		keeping.Wait()
		s.note(time.Now(), true)
	}
}

// look does what is due and returns by how much the output has grown.
func (s *space) look() (grown int64) {
	file, ok := s.stat()
	if !ok {
		return 0
	}
	grown, s.size = file.Size-s.size, file.Size
	if file.Size < s.gaps.Freed {
		s.gaps = Gaps{} // somebody cut the file off: it begins again
	}
	s.note(time.Now(), false)
	if s.limit > 0 && file.Size-s.gaps.Freed > s.limit {
		s.free(file.Size - s.limit + s.limit/8)
		if file, ok = s.stat(); !ok {
			return grown
		}
	}
	s.fill(file)
	return grown
}

func (s *space) stat() (file unix.Stat_t, ok bool) {
	return file, unix.Fstat(int(s.out.Fd()), &file) == nil
}

// fill tops the reserve up, as far as the disk and its file system let it. On a
// disk without room it frees what was read, and at last what wasn't.
func (s *space) fill(file unix.Stat_t) {
	const block = 512 // the unit of st_blocks, stat(2)
	kept := max(0, file.Blocks*block-(file.Size-s.gaps.Freed))
	if kept >= s.reserve/2 {
		return
	}
	if s.extend(file.Size, kept) {
		return
	}
	s.mark()
	s.free(s.read)
	if s.extend(file.Size, kept) || kept > s.reserve/8 {
		return
	}
	if unread := file.Size - s.gaps.Freed; unread > s.reserve {
		s.free(file.Size - unread/2)
		s.extend(file.Size, kept)
	}
}

// extend takes room behind the end of the output and reports whether it got any.
func (s *space) extend(size, kept int64) bool {
	var disk unix.Statfs_t
	fd := int(s.out.Fd())
	if unix.Fstatfs(fd, &disk) != nil {
		return true // there is nothing to be done
	}
	for n := min(s.reserve, kept+freeBytes(disk)/reserveShare); n > kept && n >= reserveLeast; n /= 2 {
		err := unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, size, n)
		if err == nil {
			return true
		}
		if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
			return true // the file system has no such thing
		}
	}
	return false
}

// free gives the blocks of the output before to back to the disk, and notes first
// what of that was not read.
func (s *space) free(to int64) {
	const align = 4096 // a part of a block stays
	to &^= align - 1
	if s.gapFile == nil || to <= s.gaps.Freed {
		return
	}
	s.mark()
	gaps := s.gaps
	gaps.Unread = append([]Range(nil), gaps.Unread...)
	gaps.add(s.read, to)
	text, err := gaps.encode()
	if err != nil {
		return
	}
	if _, err := s.gapFile.WriteAt(text, 0); err != nil {
		return
	}
	before := s.gaps.Freed
	s.gaps = gaps
	_ = unix.Fallocate(int(s.out.Fd()), unix.FALLOC_FL_KEEP_SIZE|unix.FALLOC_FL_PUNCH_HOLE, before, to-before)
}

// mark learns from the agent's lock how far it has read.
func (s *space) mark() {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: 0}
	if unix.FcntlFlock(s.out.Fd(), unix.F_OFD_GETLK, &lock) == nil && lock.Type == unix.F_RDLCK {
		s.read = max(s.read, lock.Start-readBehind)
	}
}

// note appends to the index, if the output has grown. At the end that doesn't
// wait for the second to be over.
func (s *space) note(now time.Time, end bool) {
	file, ok := s.stat()
	if !ok || s.index == nil || file.Size <= s.indexed || !end && now.Sub(s.indexedAt) < indexEvery {
		return
	}
	// A full disk may refuse it, or a part of it, which ends the index.
	if n, err := s.index.Write(appendIndex(nil, file.Size, now)); err != nil {
		if n > 0 {
			s.index = nil
		}
		return
	}
	s.indexed, s.indexedAt = file.Size, now
}

// giveBack frees the reserve of a file that nobody writes to any more.
func (s *space) giveBack() {
	if info, err := s.out.Stat(); err == nil {
		_ = s.out.Truncate(info.Size()) // otherwise it goes with the file
	}
}
