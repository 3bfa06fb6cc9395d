package client

import (
	"bufio"
	"encoding/json"
	"io"
	"strings"
)

// maxEventLine is the longest line of an event stream that is read, in bytes. A
// log line has at most 64 KiB, and JSON takes up to six bytes for one.
const maxEventLine = 1 << 20

// An Event is one event of a job's log.
type Event struct {
	ID   string // its place in the log; empty if the agent sends none
	Type string // log, end, or a type that may be ignored
	Data json.RawMessage
}

// Line returns the text of a log event.
func (e Event) Line() string {
	var data struct {
		Line string `json:"line"`
	}
	_ = json.Unmarshal(e.Data, &data) // an unreadable line is an empty one
	return data.Line
}

// eventReader reads Server-Sent Events (HTML standard, section 9.2.6).
type eventReader struct {
	lines *bufio.Scanner
	sign  func() // called for each line
}

func newEventReader(r io.Reader, sign func()) *eventReader {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), maxEventLine)
	return &eventReader{lines: lines, sign: sign}
}

// next returns the next event. At the end of the stream it discards an incomplete
// event and returns io.ErrUnexpectedEOF.
func (r *eventReader) next() (Event, error) {
	event := Event{Type: "message"}
	var data []string
	size := 0
	for r.lines.Scan() {
		r.sign()
		line := r.lines.Text()
		if line == "" {
			if data == nil {
				event = Event{Type: "message"}
				continue
			}
			event.Data = json.RawMessage(strings.Join(data, "\n"))
			return event, nil
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			event.Type = value
		case "id":
			event.ID = value
		case "data":
			if size += len(value); size > maxEventLine {
				return Event{}, bufio.ErrTooLong
			}
			data = append(data, value)
		}
	}
	if err := r.lines.Err(); err != nil {
		return Event{}, err
	}
	return Event{}, io.ErrUnexpectedEOF
}
