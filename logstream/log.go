package logstream

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// indexEvery is how many records lie between those whose place in the file is
// kept in memory: 8 bytes for so many records.
const indexEvery = 256

// A Log is the log of one job. Its methods are safe for concurrent use.
type Log struct {
	path   string
	file   *os.File
	redact interface{ Replace(string) string } // nil without secrets

	mu      sync.Mutex
	size    int64   // bytes of the file that hold whole records
	count   int64   // records in them
	index   []int64 // place of each indexEvery-th record
	final   *Final
	closed  bool
	changed chan struct{} // closed when there is more to read
	timer   *time.Timer   // shows an open line; nil while none waits
	batch   []byte        // records on their way to the file
	batched int64
	missing missing
	lines   assembler

	frames frameCache
}

// missing counts what a full disk refused.
type missing struct {
	lines    int64
	from, to time.Time
	err      error
}

// Open opens the log at path, making it if there is none. A log that was
// compressed is opened for reading.
func Open(path string, opts Options) (*Log, error) {
	l := &Log{path: path, changed: make(chan struct{})}
	if r := opts.redactor(); r != nil {
		l.redact = r
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		if file, err = openCompressed(path); errors.Is(err, os.ErrNotExist) {
			file, err = os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
		}
	}
	if err != nil {
		return nil, err
	}
	l.file = file
	if err := l.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("read log %s: %w", path, err), file.Close())
	}
	return l, nil
}

// load reads the file from its beginning: it counts the records, finds where to
// go on, and cuts off what is no whole record at the end. What is no record in
// the middle was damaged on disk; it counts as one, so that the numbers of those
// behind it stay what they were.
func (l *Log) load() error {
	info, err := l.file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is no plain file")
	}
	r := bufio.NewReaderSize(io.NewSectionReader(l.file, 0, info.Size()), 256<<10)
	var last entry
	for {
		line, err := readLine(r)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		e, err := parseRecord(line.text)
		if line.whole && err == nil && e.kind == final {
			var f Final
			if json.Unmarshal(e.text, &f) == nil {
				l.final = &f
			}
			l.size += line.length
			continue
		}
		if !line.whole {
			break // cut off below
		}
		if err == nil {
			last = e
			l.lines.end = e.pos
		}
		l.added(l.size, 1)
		l.size += line.length
	}
	if last.kind == Progress {
		// It may be followed by the line that it shows.
		l.lines.shown = append(l.lines.shown, last.text...)
		l.lines.hasShown = true
		l.lines.shownAt = time.Now()
	}
	if l.size < info.Size() {
		return l.file.Truncate(l.size)
	}
	return nil
}

// fileLine is a line of the file.
type fileLine struct {
	text   []byte // without its end
	length int64
	whole  bool // whether it has an end
}

// readLine reads a line, of which no more is kept than a record can have.
func readLine(r *bufio.Reader) (fileLine, error) {
	var line fileLine
	for {
		part, err := r.ReadSlice('\n')
		line.length += int64(len(part))
		if len(line.text) <= MaxLine*3+maxHead {
			line.text = append(line.text, part...)
		}
		switch {
		case err == nil:
			line.whole = true
			line.text = bytes.TrimSuffix(line.text, []byte{'\n'})
			return line, nil
		case errors.Is(err, bufio.ErrBufferFull):
		case err == io.EOF && line.length > 0:
			return line, nil
		default:
			return line, err
		}
	}
}

// added counts n records, the first of which begins at offset.
func (l *Log) added(offset int64, n int64) {
	for range n {
		if l.count%indexEvery == 0 {
			l.index = append(l.index, offset)
		}
		l.count++
	}
}

// Append takes p, which the benchmark printed at time at (zero: now) and which
// begins at position from of its output. It never waits for a reader and never
// fails: what the disk refuses is counted and said later.
func (l *Log) Append(p []byte, at time.Time, from Position) {
	if at.IsZero() {
		at = time.Now()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.doneLocked() {
		return
	}
	l.lines.take(p, from, func(kind Kind, pos Position, text []byte) { l.putLocked(at, kind, pos, text) })
	l.writeLocked()
	l.showLocked(time.Now())
}

// Note adds lines of the agent's own. They stand between the benchmark's lines,
// never within one.
func (l *Log) Note(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.doneLocked() {
		return
	}
	now := time.Now()
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.ReplaceAll(line, "\r", "")
		for len(line) > MaxLine {
			cut := MaxLine - incomplete([]byte(line[:MaxLine]))
			l.putLocked(now, Note, l.lines.end, []byte(line[:cut]))
			line = line[cut:]
		}
		l.putLocked(now, Note, l.lines.end, []byte(line))
	}
	l.writeLocked()
}

func (l *Log) doneLocked() bool { return l.closed || l.final != nil }

// putLocked puts a record on its way to the file. l.mu must be held.
func (l *Log) putLocked(at time.Time, kind Kind, pos Position, text []byte) {
	text = bytes.ToValidUTF8(text, []byte("\uFFFD"))
	if l.redact != nil {
		text = []byte(l.redact.Replace(string(text)))
	}
	if l.missing.lines > 0 && l.batched == 0 {
		l.batch = appendRecord(l.batch, at, Gap, pos, []byte(l.missing.sentence()))
		l.batched++
	}
	l.batch = appendRecord(l.batch, at, kind, pos, text)
	l.batched++
}

// sentence says what is missing, and from when to when.
func (m missing) sentence() string {
	return fmt.Sprintf("%d lines are missing here, printed from %s to %s: the log could not be written (%v)",
		m.lines, m.from.UTC().Format(time.TimeOnly), m.to.UTC().Format(time.TimeOnly), m.err)
}

// writeLocked writes the records that are on their way, in one piece. l.mu must
// be held.
func (l *Log) writeLocked() {
	if l.batched == 0 {
		return
	}
	batch, n := l.batch, l.batched
	l.batch, l.batched = l.batch[:0], 0
	if cap(l.batch) > 1<<20 {
		l.batch = nil
	}
	if _, err := l.file.Write(batch); err != nil {
		l.refusedLocked(n, err)
		return
	}
	l.missing = missing{}
	for len(batch) > 0 {
		line := bytes.IndexByte(batch, '\n') + 1
		l.added(l.size, 1)
		l.size += int64(line)
		batch = batch[line:]
	}
	l.wakeLocked()
}

// refusedLocked counts records that the disk refused, and takes back what it
// took of them. l.mu must be held.
func (l *Log) refusedLocked(n int64, err error) {
	if l.missing.lines > 0 {
		n-- // the gap itself was among them
	} else {
		l.missing.from = time.Now()
	}
	l.missing.lines += n
	l.missing.to = time.Now()
	l.missing.err = errors.Unwrap(err)
	if l.missing.err == nil {
		l.missing.err = err
	}
	// Should this fail, the torn end is a damaged record at worst.
	_ = l.file.Truncate(l.size)
}

// wakeLocked wakes the readers. l.mu must be held.
func (l *Log) wakeLocked() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// showLocked shows the open line if that is due, or sees to it that it will be.
// l.mu must be held.
func (l *Log) showLocked(now time.Time) {
	l.lines.show(now, func(kind Kind, pos Position, text []byte) { l.putLocked(now, kind, pos, text) })
	l.writeLocked()
	at := l.lines.due(now)
	if at.IsZero() || l.timer != nil {
		return // the timer looks again when it fires
	}
	l.timer = time.AfterFunc(at.Sub(now), func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.timer = nil
		if !l.doneLocked() {
			l.showLocked(time.Now())
		}
	})
}

// Position returns where the benchmark's output is to be fed from after the log
// was opened again.
func (l *Log) Position() Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.end
}

// Len returns how many records there are.
func (l *Log) Len() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}

// Finish marks the end of the log: an open line is ended, readers come to an
// end after the last line, and nothing more is taken. It makes all of it last
// through a power cut. A log that has ended stays as it is.
func (l *Log) Finish(f Final) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return os.ErrClosed
	}
	if l.final != nil {
		return nil
	}
	now := time.Now()
	l.lines.flush(func(kind Kind, pos Position, text []byte) { l.putLocked(now, kind, pos, text) })
	l.writeLocked()
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	l.final = &f
	l.wakeLocked()
	if _, err := l.file.Write(appendRecord(nil, now, final, l.lines.end, text)); err != nil {
		return errors.Join(err, l.file.Truncate(l.size))
	}
	return l.file.Sync()
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

// Close closes the log; readers that wait get an error. What the benchmark left
// of an open line is not kept: it is fed again. Close may be called more than
// once.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	if l.timer != nil {
		l.timer.Stop()
	}
	l.wakeLocked()
	return l.file.Close()
}
