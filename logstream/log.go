package logstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A Log is the log of one job. Its methods are safe for concurrent use.
type Log struct {
	path     string
	file     file
	readOnly bool
	log      *slog.Logger

	// w is held while records are made and written, over the disk. It comes
	// before mu, which readers take too and which is never held over the disk:
	// one that hangs does not keep a reader from what is there.
	w     sync.Mutex
	lines assembler
	out   batch
	lost  missing
	timer *time.Timer // shows an open line, or tries a full disk; nil while none waits
	end   *Final      // the log's end, from when Finish was called
	last  []string    // lines of the agent's own that go into the file together with the end
	ended bool        // whether the end is in the file
	dirty bool        // whether there is more in the file than was synced

	mu      sync.Mutex
	size    int64   // bytes of the file that hold whole records
	count   int64   // records in them
	index   []int64 // place of each indexEvery-th record
	final   *Final  // the log's end, once it and all that comes before it is in the file
	settled Position
	offset  int64 // by the records without an entry that were there when it was opened
	closed  bool
	changed chan struct{} // closed when there is more to read

	frames frameCache

	refused atomic.Int64 // lines that the disk refused
}

// indexEvery is how many records lie between those whose place in the file is
// kept in memory: 8 bytes for so many records.
const indexEvery = 256

// file is what a log needs of an *os.File.
type file interface {
	ReadAt(p []byte, at int64) (int, error)
	WriteAt(p []byte, at int64) (int, error)
	Truncate(size int64) error
	Sync() error
	Close() error
}

// Open opens the log at path, making it if there is none. Of one that a crash
// left, the half-written end is cut off; damage elsewhere costs the lines it
// hit. A log that was compressed is opened for reading.
func Open(path string, opts Options) (*Log, error) {
	l := &Log{
		path:     path,
		readOnly: opts.ReadOnly,
		log:      opts.Logger,
		lines:    assembler{secrets: NewRedactor(opts.Secrets)},
		changed:  make(chan struct{}),
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	mode := os.O_RDWR
	if opts.ReadOnly {
		mode = os.O_RDONLY
	}
	f, err := os.OpenFile(path, mode, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if f, err = openCompressed(path); errors.Is(err, fs.ErrNotExist) && !opts.ReadOnly {
			f, err = os.OpenFile(path, mode|os.O_CREATE, 0o600)
		}
	}
	if err != nil {
		return nil, err
	}
	if err := l.load(f); err != nil {
		return nil, errors.Join(fmt.Errorf("read log %s: %w", path, err), f.Close())
	}
	return l, nil
}

// Append takes p, which the benchmark printed at time at (zero: now) and which
// begins at position from of its output. It never waits for a reader and never
// fails: what the disk refuses is counted and said later.
func (l *Log) Append(p []byte, at time.Time, from Position) {
	if year := at.UTC().Year(); at.IsZero() || year < 0 || year > 9999 {
		at = time.Now()
	}
	l.w.Lock()
	defer l.w.Unlock()
	if l.doneLocked() {
		return
	}
	l.lines.take(p, from, l.putAtLocked(at))
	now := time.Now()
	l.lines.show(now, l.putAtLocked(now))
	_ = l.writeLocked() // what it refuses is counted there
	l.settle(l.lines.settled)
	l.wakeLaterLocked(now)
}

// Note adds lines of the agent's own. They stand between the benchmark's lines,
// never within one.
func (l *Log) Note(text string) {
	l.w.Lock()
	defer l.w.Unlock()
	if l.doneLocked() {
		return
	}
	l.putNoteLocked(text)
	_ = l.writeLocked() // what it refuses is counted there
	l.wakeLaterLocked(time.Now())
}

// putNoteLocked puts lines of the agent's own on their way to the file. l.w must be
// held.
func (l *Log) putNoteLocked(text string) {
	put := l.putAtLocked(time.Now())
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		rest := l.lines.clean([]byte(strings.ReplaceAll(line, "\r", "")))
		for len(rest) > MaxLine {
			cut := MaxLine - incomplete(rest[:MaxLine])
			put(Note, l.lines.bear(), rest[:cut])
			rest = rest[cut:]
		}
		put(Note, l.lines.bear(), rest)
	}
}

// Flush writes what the log has yet to say of lines that the disk refused. With an
// error the disk still refuses it; the log tries again by itself while it is open.
// A log that is closed before that forgets it.
func (l *Log) Flush() error {
	l.w.Lock()
	defer l.w.Unlock()
	if l.doneLocked() {
		return nil
	}
	l.putLostLocked()
	return l.writeLocked()
}

// EndLine ends a line that is open: the benchmark prints no more. What the agent
// notes from then on comes after it.
func (l *Log) EndLine() {
	l.w.Lock()
	defer l.w.Unlock()
	if l.doneLocked() {
		return
	}
	now := time.Now()
	l.lines.flush(l.putAtLocked(now))
	_ = l.writeLocked() // what it refuses is counted there
	l.settle(l.lines.settled)
	l.wakeLaterLocked(now)
}

// doneLocked reports whether the log takes nothing any more. l.w must be held.
func (l *Log) doneLocked() bool { return l.end != nil || l.readOnly || l.isClosed() }

// wakeLaterLocked sees to it that what waits for a time is done when that comes:
// an open line to be shown, a disk that was full to be tried again. l.w must be
// held.
func (l *Log) wakeLaterLocked(now time.Time) {
	if l.timer != nil {
		return // it looks again when it fires
	}
	var at time.Time
	if l.end == nil {
		at = l.lines.due(now)
	}
	unsaid := l.lost.lines > 0 || l.end != nil && !l.ended
	if retry := now.Add(retryEvery); unsaid && (at.IsZero() || at.After(retry)) {
		at = retry
	}
	if !at.IsZero() {
		l.timer = time.AfterFunc(at.Sub(now), l.wakeUp)
	}
}

func (l *Log) wakeUp() {
	l.w.Lock()
	defer l.w.Unlock()
	l.timer = nil
	if l.isClosed() {
		return
	}
	now := time.Now()
	if l.end == nil {
		l.lines.show(now, l.putAtLocked(now))
		l.putLostLocked()
		_ = l.writeLocked() // what it refuses is counted there
	} else {
		_ = l.writeEndLocked() // it stays to be written
	}
	l.settle(l.lines.settled)
	l.wakeLaterLocked(now)
}

// Position returns where the benchmark's output is to be fed from to go on with
// the log: after the last line that has ended. What was there of a line that
// hasn't is forgotten when it comes again.
func (l *Log) Position() Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.settled
}

// Offset returns how many bytes of the benchmark's output the log has: Position
// without what it has from entries, which have no place in the output as a whole.
func (l *Log) Offset() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.settled.Stamp != 0 {
		return l.offset
	}
	return l.settled.Byte
}

// Len returns how many records there are.
func (l *Log) Len() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}

// Refused returns how many lines the disk has refused since the log was opened. The
// log says so in their place.
func (l *Log) Refused() int64 { return l.refused.Load() }

// Finish marks the end of the log: an open line is ended, last is added as lines of
// the agent's own, readers come to an end after it, and nothing more is taken. It
// makes all of it last through a power cut. A log that has ended keeps the end it has.
//
// With an error the disk refuses the end, and readers wait for it. It is tried again
// while the log is open, and by another Finish. The lines of last are written
// together with the end, so that a crash leaves all of it to the next Finish.
func (l *Log) Finish(f Final, last ...string) error {
	l.w.Lock()
	defer l.w.Unlock()
	switch {
	case l.isClosed():
		return os.ErrClosed
	case l.ended:
		return nil
	case l.readOnly:
		return &fs.PathError{Op: "finish", Path: l.path, Err: fs.ErrPermission}
	}
	now := time.Now()
	if l.end == nil {
		f.Status = string(l.lines.clean([]byte(f.Status)))
		f.Error = string(l.lines.clean([]byte(f.Error)))
		l.end, l.last = &f, last
		l.lines.flush(l.putAtLocked(now))
	}
	err := l.writeEndLocked()
	l.settle(l.lines.settled)
	if err != nil {
		l.wakeLaterLocked(now)
		return err
	}
	return l.syncLocked()
}

// writeEndLocked writes what is on its way to the file and what is to be said of
// missing lines, then the last lines and the mark of the log's end, all of them or
// none. l.w must be held.
func (l *Log) writeEndLocked() error {
	l.putLostLocked()
	if err := l.writeLocked(); err != nil || l.ended {
		return err
	}
	text, err := json.Marshal(*l.end)
	if err != nil {
		return err // two texts always encode
	}
	for _, line := range l.last {
		l.putNoteLocked(line)
	}
	l.putAtLocked(time.Now())(final, l.lines.bear(), text)
	l.out.whole = true
	if err := l.writeLocked(); err != nil {
		return err
	}
	l.publishEnd()
	return nil
}

// Finished reports whether the log has its end.
func (l *Log) Finished() bool {
	_, ok := l.Final()
	return ok
}

// Final returns the log's end, and whether it has one.
func (l *Log) Final() (Final, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.final == nil {
		return Final{}, false
	}
	return *l.final, true
}

// Sync makes what is in the log last through a power cut.
func (l *Log) Sync() error {
	l.w.Lock()
	defer l.w.Unlock()
	if l.isClosed() {
		return os.ErrClosed
	}
	return l.syncLocked()
}

func (l *Log) syncLocked() error {
	if !l.dirty {
		return nil
	}
	l.dirty = false
	return l.file.Sync()
}

// Close makes the log last and closes it; readers that wait get an error. What
// the benchmark left of an open line is not kept: it is fed again. Close may be
// called more than once.
func (l *Log) Close() error {
	l.w.Lock()
	defer l.w.Unlock()
	if l.isClosed() {
		return nil
	}
	if l.timer != nil {
		l.timer.Stop()
	}
	l.publishClosed()
	return errors.Join(l.syncLocked(), l.file.Close())
}

// The methods below are where readers learn what there is.

// publish makes n bytes of whole records known to readers, which stand in the
// file at places, and wakes them.
func (l *Log) publish(n int, places []int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, at := range places {
		if (l.count+int64(i))%indexEvery == 0 {
			l.index = append(l.index, at)
		}
	}
	l.count += int64(len(places))
	l.size += int64(n)
	if len(places) > 0 {
		l.wakeLocked()
	}
}

// settle makes known where the output is to be fed from.
func (l *Log) settle(pos Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settled = pos
}

func (l *Log) publishEnd() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.final = l.end
	l.wakeLocked()
}

func (l *Log) publishClosed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.wakeLocked()
}

func (l *Log) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// wakeLocked wakes the readers. l.mu must be held.
func (l *Log) wakeLocked() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// logState is whether there will be more.
type logState int

const (
	logOpen logState = iota
	logFinished
	logClosed
)

// look returns what a reader needs to know: how many records there are and how
// many bytes they take, and when to look again.
func (l *Log) look() (count, size int64, changed <-chan struct{}, state logState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.final != nil, l.readOnly:
		state = logFinished
	case l.closed:
		state = logClosed
	}
	return l.count, l.size, l.changed, state
}

// place returns the place in the file of the nearest record before seq that is
// known, and its number.
func (l *Log) place(seq int64) (offset, at int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := min(seq/indexEvery, int64(len(l.index))-1)
	if i < 0 {
		return 0, 0
	}
	return l.index[i], i * indexEvery
}
