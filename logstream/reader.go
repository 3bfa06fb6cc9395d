package logstream

import (
	"bytes"
	"context"
	"io"
	"os"
)

// How much of the file a reader takes at once.
const (
	readSize   = 128 << 10 // bytes
	maxRecords = 1 << 20   // no bound beside the bytes
)

// A Reader reads the records of a log, the later ones as they come. It is for
// one goroutine.
type Reader struct {
	log    *Log
	seq    int64
	offset int64
	placed bool // whether offset is the place of seq
	buf    []byte
}

// Reader returns a reader that begins with record seq, or with the first if
// there is none of that number yet and never could be (below 0).
func (l *Log) Reader(seq int64) *Reader {
	return &Reader{log: l, seq: max(seq, 0)}
}

// Seq returns the number of the record that Next begins with.
func (r *Reader) Seq() int64 { return r.seq }

// Close gives up what the reader holds.
func (r *Reader) Close() error {
	r.buf = nil
	return nil
}

// Next returns the records that are there, at least one and no more than some
// 128 KiB of them, waiting for one if need be. After the last one of a finished
// log the error is io.EOF. It is ctx's if that ends first, and os.ErrClosed if
// the log is closed meanwhile.
func (r *Reader) Next(ctx context.Context) ([]Record, error) {
	for {
		count, size, changed, state := r.log.look()
		if r.seq < count {
			records, err := r.read(size, readSize, maxRecords)
			if len(records) > 0 || err != nil {
				return records, err
			}
			continue
		}
		switch state {
		case logFinished:
			return nil, io.EOF
		case logClosed:
			return nil, os.ErrClosed
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// logState is whether there will be more.
type logState int

const (
	logOpen logState = iota
	logFinished
	logClosed
)

// look returns what a reader needs to know.
func (l *Log) look() (count, size int64, changed <-chan struct{}, state logState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.final != nil:
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

// read reads up to most records from the file, which is size bytes long, in
// pieces of piece bytes.
func (r *Reader) read(size, piece int64, most int) ([]Record, error) {
	skip := int64(0)
	if !r.placed {
		var at int64
		r.offset, at = r.log.place(r.seq)
		skip = r.seq - at
		r.placed = true
	}
	var records []Record
	for len(records) == 0 && r.offset < size {
		if err := r.fill(size, piece); err != nil {
			return nil, err
		}
		rest := r.buf
		for len(rest) > 0 && len(records) < most {
			i := bytes.IndexByte(rest, '\n')
			if i < 0 {
				break
			}
			line := rest[:i]
			rest = rest[i+1:]
			r.offset += int64(i + 1)
			if skip > 0 {
				skip--
				continue
			}
			e, err := parseRecord(line)
			if err == nil && e.kind == final {
				continue
			}
			records = append(records, record(r.seq, e, err))
			r.seq++
		}
	}
	return records, nil
}

// record makes a record of what was read of it.
func record(seq int64, e entry, err error) Record {
	if err != nil {
		return Record{Seq: seq, Kind: Gap, Text: "A line is missing here: the log was damaged on disk"}
	}
	return Record{Seq: seq, Time: e.at, Kind: e.kind, Text: string(e.text)}
}

// fill reads the next piece of the file, which ends with a whole line.
func (r *Reader) fill(size, piece int64) error {
	for want := piece; ; want *= 2 {
		want = min(want, size-r.offset)
		if int64(cap(r.buf)) < want {
			r.buf = make([]byte, want)
		}
		r.buf = r.buf[:want]
		n, err := r.log.file.ReadAt(r.buf, r.offset)
		if err != nil && err != io.EOF {
			return err
		}
		r.buf = r.buf[:n]
		if bytes.IndexByte(r.buf, '\n') >= 0 {
			return nil
		}
		if int64(n) < want || want == size-r.offset {
			return io.ErrUnexpectedEOF // somebody cut the file
		}
	}
}
