package outbox

import "github.com/kirizan/kitt-agent/logstream"

// A batch holds records of a log that wait to be sent, with their texts as the
// server gets them. Its zero value is empty.
type batch struct {
	records []logstream.Record
	lines   int // of them, without those that are not sent
	bytes   int // of these lines, each with a newline
}

// add appends records to those that wait.
func (b *batch) add(records []logstream.Record) {
	for _, r := range records {
		line, ok := sendable(r)
		if ok {
			b.lines++
			b.bytes += len(line) + 1
		}
		r.Text = line
		b.records = append(b.records, r)
	}
}

func (b *batch) empty() bool { return len(b.records) == 0 }

// full reports whether what waits fills a request.
func (b *batch) full() bool { return b.lines >= maxJoinLines || b.bytes >= maxJoinBytes }

// take returns the lines of the next request: one, or as many as it carries if
// they are joined. Everything before record next is then in this request or an
// earlier one.
func (b *batch) take(join bool) (next int64, lines []string) {
	size, n := 0, 0
	for _, r := range b.records {
		if !r.Repeats() {
			if len(lines) > 0 && (!join || len(lines) == maxJoinLines || size+len(r.Text) > maxJoinBytes) {
				break
			}
			lines = append(lines, r.Text)
			size += len(r.Text) + 1
		}
		n++
		next = r.Seq + 1
	}
	b.records = b.records[n:]
	b.lines -= len(lines)
	b.bytes -= size
	return next, lines
}

// sendable returns the text of a record as the server gets it, and whether it gets
// it at all: a line that was sent already, as the last state of a progress bar, is
// not sent twice.
func sendable(r logstream.Record) (string, bool) {
	if r.Repeats() {
		return "", false
	}
	return logstream.StripANSI(r.Text), true
}
