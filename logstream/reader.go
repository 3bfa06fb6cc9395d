package logstream

import (
	"bytes"
	"context"
	"io"
	"os"
)

// readSize is how much of the file a reader takes at once, in bytes.
const readSize = 128 << 10

// A Reader reads the records of a log, the later ones as they come. It is for
// one goroutine.
type Reader struct {
	log    *Log
	seq    int64
	offset int64
	placed bool // whether offset is the place of seq
	buf    []byte
}

// Reader returns a reader that begins with record seq, or with the first if seq
// is below 0. It may be one that is still to come.
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
// log, or of one that is only read, the error is io.EOF. It is ctx's if that
// ends first, and os.ErrClosed if the log is closed meanwhile.
func (r *Reader) Next(ctx context.Context) ([]Record, error) {
	for {
		count, size, changed, state := r.log.look()
		if r.seq < count {
			var records []Record
			err := r.scan(size, readSize, int(count-r.seq), func(seq int64, e entry) {
				records = append(records, Record{Seq: seq, Time: e.at, Kind: e.kind, Text: string(e.text)})
			})
			return records, err
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

// damaged stands for a line of the file that is no record.
var damaged = entry{kind: Gap, text: []byte("A line is missing here: the log was damaged on disk")}

// scan hands records to take, at least one of those that are there and at most
// the given number, out of the next piece bytes of the file, which is size bytes
// long. An entry's text is valid until take returns.
func (r *Reader) scan(size, piece int64, most int, take func(seq int64, e entry)) error {
	skip := int64(0)
	if !r.placed {
		var at int64
		r.offset, at = r.log.place(r.seq)
		skip = r.seq - at
		r.placed = true
	}
	for first := r.seq; r.seq == first; {
		lines, err := r.fill(size, piece)
		if err != nil {
			return err
		}
		for len(lines) > 0 && r.seq-first < int64(most) {
			n := bytes.IndexByte(lines, '\n') + 1
			e, err := parseRecord(lines[:n-1])
			lines = lines[n:]
			r.offset += int64(n)
			switch {
			case err == nil && e.kind == final:
				continue
			case err != nil:
				e = damaged
			}
			if skip > 0 {
				skip--
				continue
			}
			take(r.seq, e)
			r.seq++
		}
	}
	return nil
}

// fill returns the whole lines of the next piece of the file, at least one.
func (r *Reader) fill(size, piece int64) ([]byte, error) {
	for want := piece; ; want *= 2 {
		want = min(want, size-r.offset)
		if int64(cap(r.buf)) < want {
			r.buf = make([]byte, want)
		}
		n, err := r.log.file.ReadAt(r.buf[:want], r.offset)
		if err != nil && err != io.EOF {
			return nil, err
		}
		if end := bytes.LastIndexByte(r.buf[:n], '\n'); end >= 0 {
			return r.buf[:end+1], nil
		}
		if int64(n) < want || want == size-r.offset {
			return nil, io.ErrUnexpectedEOF // somebody cut the file
		}
		if n > maxRecordLine {
			// No record is as long: what is left of a damaged line needs no
			// more memory than that. Its end counts as the line.
			r.offset += int64(n)
			want = piece
		}
	}
}
