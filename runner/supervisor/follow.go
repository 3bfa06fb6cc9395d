package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
)

// The file of the output is looked at every pollMin while it grows, and ever
// less often, down to every pollMax, while it doesn't, and in a flood.
const (
	pollMin = 5 * time.Millisecond
	pollMax = 50 * time.Millisecond
	flood   = 16 << 10 // bytes at one look that are more than anybody reads along
)

// A file on another machine's disk is looked at less often, and opened each time: see
// [Follower.Remote].
const (
	pollRemoteMin = 250 * time.Millisecond
	pollRemoteMax = 2 * time.Second
)

// shorterLimit is how long a remote file may be shorter than what was read of it, before
// that counts.
const shorterLimit = time.Minute

// drainLimit is how long the output of a run that was stopped may take.
const drainLimit = time.Second

// chunk is how much of the output is read at once, in bytes.
const chunk = 256 << 10

// markEvery is by how much of the output the supervisor is told at once how far
// it was read, in bytes.
const markEvery = 1 << 20

// maxCuts is how often it is said that the output became shorter.
const maxCuts = 10

// stale is the age from which on a piece of output bears the time of the index.
const stale = 2 * time.Second

// A Follower brings the output of one run to a [runner.Output], from a byte
// offset on. One goroutine uses it.
type Follower struct {
	dir  *Dir
	out  runner.Output
	gone func() (bool, error)

	remote bool                 // see Remote
	shift  func() time.Duration // likewise
	least  time.Duration        // between two looks
	most   time.Duration        // likewise
	short  time.Time            // since when the output is shorter than offset

	offset int64    // of what comes next
	file   *os.File // nil until the supervisor has made it
	index  *os.File // nil if there is none
	times  indexReader
	gaps   gapReader
	buf    []byte
	last   byte  // the last byte that was passed on; 0 for none
	marked int64 // what the supervisor was told
	cuts   int   // how often the output became shorter
	waits  bool  // whether it was said that something is waited for
	broken bool  // whether it was said that the output can't be read
	outErr error // the first error of out
}

// NewFollower returns a Follower that begins at byte from. Pump asks gone whether
// the run has ended: nothing of it writes to the output any more.
func NewFollower(dir *Dir, out runner.Output, from int64, gone func() (bool, error)) *Follower {
	return &Follower{dir: dir, out: out, gone: gone, offset: max(0, from), gaps: gapReader{dir: dir}, least: pollMin, most: pollMax}
}

// Remote has the follower read files that another machine writes. It opens them again
// at each look, because NFS shows what others have written when a file is opened, and
// looks less often. A file that seems shorter for a while is waited for. shift returns
// by how much the clock of the other machine is ahead. It is called before Pump.
func (f *Follower) Remote(shift func() time.Duration) {
	f.remote, f.shift = true, shift
	f.least, f.most = pollRemoteMin, pollRemoteMax
}

// Offset returns how much of the output was passed on, in bytes. It is for gone, which
// Pump calls.
func (f *Follower) Offset() int64 { return f.offset }

// Close closes the output.
func (f *Follower) Close() error {
	errs := []error{f.gaps.close()}
	for _, file := range []*os.File{f.file, f.index} {
		if file != nil {
			errs = append(errs, file.Close())
		}
	}
	return errors.Join(errs...)
}

// Err returns the first error of the Output. A log that can't be written is no
// reason to end a benchmark.
func (f *Follower) Err() error { return f.outErr }

// Say passes on a message of the runner's own.
func (f *Follower) Say(format string, args ...any) {
	f.note(f.out.WriteMessage(fmt.Sprintf(format, args...)))
}

func (f *Follower) note(err error) {
	if err != nil && f.outErr == nil {
		f.outErr = fmt.Errorf("write to the job's log: %w", err)
	}
}

// ErrLate is what Pump returns at its deadline.
var ErrLate = errors.New("it has not ended in time")

// Pump passes output on until the run is gone and all of its output is read. It
// returns the cause when ctx is done, and ErrLate at the deadline if there is
// one, also while there is more to read: a benchmark may print faster than its
// output is taken.
//
// An error that is the machine's, see [base.Transient], is not the run's end: it is
// waited out. Output that can't be read for another reason is given up, which the
// log says; the run goes on to its end.
func (f *Follower) Pump(ctx context.Context, deadline time.Time) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for wait := f.least; ; {
		// Asked before reading: what was printed up to the end is read then.
		gone, err := f.gone()
		if err != nil && !base.Transient(err) {
			return err
		}
		var n int
		more := false
		if err == nil {
			n, more, err = f.tryRead()
		}
		if err != nil {
			gone = false
		}
		f.sayWaiting(err)
		switch {
		case err != nil:
			wait = base.TransientPause
		case more:
			wait = 0
		case gone:
			f.sayNoFile()
			return nil
		case n > flood:
			// Fewer and larger reads disturb a benchmark less that prints as
			// fast as it can; its readers don't notice.
			wait = max(f.least, pollMax)
		case n > 0:
			wait = f.least
		default:
			wait = min(max(wait*2, f.least), f.most)
		}
		if !deadline.IsZero() && time.Now().After(deadline) {
			return ErrLate
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if wait == 0 {
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
		}
	}
}

// Drain passes on what a run that was stopped had printed, as far as that goes
// within a second, and says how much is left out.
func (f *Follower) Drain() error {
	err := f.Pump(context.Background(), time.Now().Add(drainLimit))
	if !errors.Is(err, ErrLate) || f.file == nil {
		return err
	}
	info, err := f.file.Stat()
	if err != nil {
		return fmt.Errorf("look at the output: %w", err)
	}
	return f.out.WriteMessage(fmt.Sprintf("the last %d bytes that the benchmark printed are left out, because it was stopped",
		info.Size()-f.offset))
}

// sayWaiting says, once, that the follower waits for the files because of err, and
// once that it no longer does.
func (f *Follower) sayWaiting(err error) {
	if f.waits == (err != nil) {
		return
	}
	if f.waits = err != nil; f.waits {
		f.Say("waiting for the files of the run: %v", err)
	} else {
		f.Say("the files of the run can be read again")
	}
}

// tryRead is read, but its error is transient: output that can't be read for
// another reason has nothing more to read.
func (f *Follower) tryRead() (n int, more bool, err error) {
	n, more, err = f.read()
	if err == nil {
		return n, more, nil
	}
	// The file may be another one by then, as after a share was mounted again.
	f.reopen()
	if base.Transient(err) {
		return 0, false, err
	}
	if !f.broken {
		f.broken = true
		f.Say("what the benchmark prints from here on is missing: %v", err)
	}
	return 0, false, nil
}

// reopen has the output opened again by the next read.
func (f *Follower) reopen() {
	if f.file != nil {
		_ = f.file.Close() // it was only read
		f.file = nil
	}
	if f.index != nil {
		_ = f.index.Close()
		f.index, f.times.file = nil, nil
	}
	if f.remote {
		_ = f.gaps.close()
	}
}

// read passes on one piece of the output, of at most chunk bytes. It returns how
// much it has read, and whether there is likely more.
func (f *Follower) read() (n int, more bool, err error) {
	if err := f.open(); err != nil || f.file == nil {
		return 0, false, err
	}
	if f.remote {
		defer f.reopen()
	}
	n, err = f.file.ReadAt(f.buf, f.offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, false, fmt.Errorf("read the output: %w", err)
	}
	if n == 0 {
		return 0, false, f.mindTruncation()
	}
	// What was removed meanwhile reads as zeros, and is in gaps.json already.
	missing := f.gaps.missing(f.offset)
	if missing == 0 {
		missing = hole(f.file, f.offset, f.buf[:n])
	}
	if missing > 0 {
		if info, err := f.file.Stat(); err != nil || f.offset+missing <= info.Size() {
			f.skip(missing)
			return 0, true, err
		}
	}
	f.pass(f.buf[:n])
	if f.offset-f.marked >= markEvery {
		f.marked = f.offset
		mark(f.file, f.offset)
	}
	return n, n == len(f.buf), nil
}

// open opens the output once there is one.
func (f *Follower) open() error {
	if f.file != nil {
		return nil
	}
	file, err := f.dir.Open(OutputFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open the output: %w", err)
	}
	f.file = file
	if f.buf == nil {
		f.buf = make([]byte, chunk)
	}
	if index, err := f.dir.Open(IndexFile); err == nil {
		f.index, f.times.file = index, index
	}
	mark(file, f.offset)
	f.marked = f.offset
	return nil
}

// pass passes a piece on, in parts that were printed at the same time.
func (f *Follower) pass(p []byte) {
	for len(p) > 0 {
		part, at := p, time.Time{}
		if when, upTo, ok := f.printed(); ok {
			part, at = p[:min(int64(len(p)), upTo-f.offset)], when
		}
		f.note(f.out.WriteOutput(part, at, runner.Position(f.offset)))
		f.offset += int64(len(part))
		f.last = part[len(part)-1]
		p = p[len(part):]
	}
}

// printed returns when the next byte was printed, if that was a while ago.
func (f *Follower) printed() (at time.Time, upTo int64, ok bool) {
	if f.times.file == nil {
		return time.Time{}, 0, false
	}
	at, upTo, ok = f.times.find(f.offset)
	if f.remote {
		at = at.Add(-f.shift())
	}
	age := time.Since(at)
	return at, upTo, ok && age > stale
}

// skip goes on behind a gap. What comes then is a line of its own.
func (f *Follower) skip(missing int64) {
	f.Say("%d bytes of the output are missing here: they were removed to save disk space before they were read", missing)
	f.offset += missing
	if f.last != 0 && f.last != '\n' {
		f.note(f.out.WriteOutput([]byte{'\n'}, time.Time{}, runner.Position(f.offset-1)))
		f.last = '\n'
	}
}

// mindTruncation begins again at the start of a file that somebody has cut off
// before the place that was reached.
func (f *Follower) mindTruncation() error {
	info, err := f.file.Stat()
	if err != nil {
		return fmt.Errorf("look at the output: %w", err)
	}
	if info.Size() >= f.offset {
		f.short = time.Time{}
		return nil
	}
	if f.short.IsZero() {
		f.short = time.Now()
	}
	if f.remote && time.Since(f.short) < shorterLimit {
		return nil
	}
	if f.cuts++; f.cuts <= maxCuts {
		f.Say("the file with the benchmark's output became shorter, from %d bytes to %d, "+
			"so that lines may be missing: reading it again from its start", f.offset, info.Size())
	}
	f.offset = 0
	f.times.over = true // it tells of what was cut off
	return nil
}
