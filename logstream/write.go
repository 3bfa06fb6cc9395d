package logstream

import (
	"bytes"
	"errors"
	"fmt"
	"time"
)

// retryEvery is how often a disk that was full is tried while nothing else is to
// be written.
const retryEvery = 5 * time.Second

// batch is records on their way to the file, which go in one piece.
type batch struct {
	text    []byte
	gap     bool      // whether the first of them says what is missing
	whole   bool      // whether none of it is kept if the disk refuses a part
	stamp   []byte    // the time at, as records bear it
	at      time.Time // time of the latest record
	settled Position  // of the record put last
	places  []int64   // where in the file each record came to stand
}

// missing counts what a full disk refused and nothing in the log says yet.
type missing struct {
	lines    int64
	from, to []byte // when they were printed
	err      error  // why; not nil from the first failure until a write succeeds
}

// sentence says what is missing, and from when to when.
func (m missing) sentence() []byte {
	lines, are := "lines", "are"
	if m.lines == 1 {
		lines, are = "line", "is"
	}
	return fmt.Appendf(nil, "%d %s %s missing here, printed from %s to %s: the log could not be written (%v)",
		m.lines, lines, are, m.from, m.to, m.err)
}

// putAtLocked returns a function that puts records of time at on their way to
// the file. l.w must be held when it is called.
func (l *Log) putAtLocked(at time.Time) emit {
	return func(kind Kind, pos Position, text []byte) {
		l.putLostLocked()
		l.out.put(at, kind, pos, text)
	}
}

func (b *batch) put(at time.Time, kind Kind, pos Position, text []byte) {
	if b.stamp == nil || !at.Equal(b.at) {
		b.at, b.stamp = at, appendStamp(b.stamp[:0], at)
	}
	b.text = appendRecord(b.text, b.stamp, kind, pos, text)
	b.settled = pos
}

// putLostLocked begins a batch with what is missing before it. Its position is
// that of the last line that is missing: the one of the line after it would make
// a crash between the two lose that line as well. l.w must be held.
func (l *Log) putLostLocked() {
	if l.lost.lines > 0 && len(l.out.text) == 0 {
		l.out.gap = true
		l.out.put(time.Now(), Gap, l.out.settled, l.lost.sentence())
	}
}

// writeLocked writes the records that are on their way, in one piece. What the
// disk refuses is counted; what it took in whole records stays. l.w must be
// held.
func (l *Log) writeLocked() error {
	text, gap, whole := l.out.text, l.out.gap, l.out.whole
	if len(text) == 0 {
		return nil
	}
	l.out.text, l.out.gap, l.out.whole = text[:0], false, false
	if cap(text) > 1<<20 {
		l.out.text = nil
	}
	l.dirty = true
	// The place is given, so that what a write left half done is written over by
	// the next one.
	n, err := l.file.WriteAt(text, l.size)
	if err != nil && whole {
		_ = l.file.Truncate(l.size) // see refusedLocked
		return err
	}
	if err != nil {
		n = bytes.LastIndexByte(text[:n], '\n') + 1
	}
	if n > 0 {
		l.storedLocked(text[:n], gap)
	}
	if err != nil {
		l.refusedLocked(text[n:], err)
		return err
	}
	if l.lost.err != nil {
		l.log.Info("log can be written again", "file", l.path)
		l.lost = missing{}
	}
	return nil
}

// storedLocked notes that the file holds records, the first of which may have
// said what is missing. l.w must be held.
func (l *Log) storedLocked(text []byte, gap bool) {
	if gap {
		l.lost.lines = 0
	}
	places := l.out.places[:0]
	for at, rest := l.size, text; len(rest) > 0; {
		n := bytes.IndexByte(rest, '\n') + 1
		if Kind(rest[kindAt]) == final {
			l.ended = true
		} else {
			places = append(places, at)
		}
		at, rest = at+int64(n), rest[n:]
	}
	l.publish(len(text), places)
	l.out.places = places
}

// refusedLocked counts the lines among records that the disk refused. l.w must
// be held.
func (l *Log) refusedLocked(text []byte, err error) {
	if l.lost.err == nil {
		l.log.Warn("log cannot be written, the benchmark goes on without it", "file", l.path, "err", err)
	}
	if l.lost.err = errors.Unwrap(err); l.lost.err == nil {
		l.lost.err = err
	}
	for len(text) > 0 {
		n := bytes.IndexByte(text, '\n') + 1
		switch Kind(text[kindAt]) {
		case Output, Continued, Repeat, Note:
			if l.lost.to = append(l.lost.to[:0], text[:len("2006-01-02T15:04:05")]...); l.lost.lines == 0 {
				l.lost.from = append([]byte(nil), l.lost.to...)
			}
			l.lost.lines++
			l.refused.Add(1)
		case Progress:
			l.lines.unshow()
		}
		text = text[n:]
	}
	// Blocks that the half-written rest took may help somebody. If not, it is
	// written over, or cut off when the log is opened again.
	_ = l.file.Truncate(l.size)
}
