package logstream

import (
	"bytes"
	"errors"
	"strconv"
	"time"
	"unicode/utf8"
)

// maxHead is longer than the head of any record: time, kind, position.
const maxHead = 128

// errRecord says that a line of the file is no record.
var errRecord = errors.New("not a record")

// appendRecord appends a record's line to b.
func appendRecord(b []byte, at time.Time, kind Kind, pos Position, text []byte) []byte {
	b = at.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, ' ', byte(kind), ' ')
	b = strconv.AppendInt(b, pos.Stamp, 10)
	b = append(b, '.')
	b = strconv.AppendInt(b, pos.Count, 10)
	b = append(b, '.')
	b = strconv.AppendInt(b, pos.Byte, 10)
	b = append(b, ' ')
	b = append(b, text...)
	return append(b, '\n')
}

// entry is a line of the file, taken apart.
type entry struct {
	at   time.Time
	kind Kind
	pos  Position
	text []byte
}

// parseRecord takes a line of the file apart, without its line end. The text is
// a part of line.
func parseRecord(line []byte) (entry, error) {
	var e entry
	stamp, rest, ok := bytes.Cut(line, []byte{' '})
	if !ok || len(rest) < 2 || rest[1] != ' ' {
		return e, errRecord
	}
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return e, errRecord
	}
	e.at, e.kind = at, Kind(rest[0])
	if !e.kind.valid() {
		return e, errRecord
	}
	place, text, ok := bytes.Cut(rest[2:], []byte{' '})
	if !ok {
		return e, errRecord
	}
	for i, field := range []*int64{&e.pos.Stamp, &e.pos.Count, &e.pos.Byte} {
		part, more, found := bytes.Cut(place, []byte{'.'})
		if found == (i == 2) {
			return e, errRecord
		}
		if *field, err = strconv.ParseInt(string(part), 10, 64); err != nil {
			return e, errRecord
		}
		place = more
	}
	if !utf8.Valid(text) {
		return e, errRecord
	}
	e.text = text
	return e, nil
}
