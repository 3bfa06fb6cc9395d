package logstream

import (
	"bytes"
	"errors"
	"strconv"
	"time"
	"unicode/utf8"
)

// stampLayout is how a record's time is written: always as wide, in UTC.
const stampLayout = "2006-01-02T15:04:05.000000000Z"

// Bounds of a record's line in the file.
const (
	kindAt        = len(stampLayout) + 1            // place of the kind
	maxHead       = len(stampLayout) + 3 + 3*20 + 3 // time, kind, position
	maxRecordLine = maxHead + 3*MaxLine + 1         // U+FFFD takes three bytes where one was
)

// errRecord says that a line of the file is no record.
var errRecord = errors.New("not a record")

// appendStamp appends a time as records bear it.
func appendStamp(b []byte, at time.Time) []byte {
	return at.UTC().AppendFormat(b, stampLayout)
}

// appendRecord appends a record's line to b. The stamp is a time as appendStamp
// writes it; text is valid UTF-8 without line ends.
func appendRecord(b, stamp []byte, kind Kind, pos Position, text []byte) []byte {
	b = append(b, stamp...)
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
	if len(line) < kindAt+2 || len(line) > maxRecordLine || line[kindAt-1] != ' ' || line[kindAt+1] != ' ' {
		return e, errRecord
	}
	var ok bool
	if e.at, ok = parseStamp(line[:len(stampLayout)]); !ok {
		return e, errRecord
	}
	if e.kind = Kind(line[kindAt]); !e.kind.valid() {
		return e, errRecord
	}
	rest := line[kindAt+2:]
	for i, field := range []*int64{&e.pos.Stamp, &e.pos.Count, &e.pos.Byte} {
		n := bytes.IndexByte(rest, ".. "[i])
		if n < 0 || n > 20 {
			return e, errRecord
		}
		var err error
		if *field, err = strconv.ParseInt(string(rest[:n]), 10, 64); err != nil {
			return e, errRecord
		}
		rest = rest[n+1:]
	}
	if !utf8.Valid(rest) {
		return e, errRecord
	}
	e.text = rest
	return e, nil
}

// parseStamp reads a time in stampLayout. A log is read whole when it is opened,
// and time.Parse would take most of that time.
func parseStamp(b []byte) (time.Time, bool) {
	for i, c := range []byte(stampLayout) {
		if c < '0' || c > '9' {
			if b[i] != c {
				return time.Time{}, false
			}
		} else if b[i] < '0' || b[i] > '9' {
			return time.Time{}, false
		}
	}
	number := func(from, to int) int {
		n := 0
		for _, c := range b[from:to] {
			n = n*10 + int(c-'0')
		}
		return n
	}
	month, day, hour, minute, second := number(5, 7), number(8, 10), number(11, 13), number(14, 16), number(17, 19)
	if month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 59 {
		return time.Time{}, false
	}
	return time.Date(number(0, 4), time.Month(month), day, hour, minute, second, number(20, 29), time.UTC), true
}
