package agent

import "github.com/kirizan/kitt-agent/logstream"

// waitingLines holds records of a log that wait to be sent, the texts as the
// server gets them. Its zero value is empty.
type waitingLines struct {
	records []logstream.Record
	lines   int // of them, without those that are not sent
	bytes   int // of these lines, each with a newline
}

// add puts records behind those that wait.
func (w *waitingLines) add(records []logstream.Record) {
	for _, r := range records {
		line, ok := shipped(r)
		if ok {
			w.lines++
			w.bytes += len(line) + 1
		}
		r.Text = line
		w.records = append(w.records, r)
	}
}

func (w *waitingLines) empty() bool { return len(w.records) == 0 }

// full reports whether what waits fills a request.
func (w *waitingLines) full() bool { return w.lines >= maxJoinLines || w.bytes >= maxJoinBytes }

// take returns the lines of the next request: one, or as many as it carries if
// they are joined. Everything before record next is then in this request or an
// earlier one.
func (w *waitingLines) take(join bool) (next int64, lines []string) {
	size, n := 0, 0
	for _, r := range w.records {
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
	w.records = w.records[n:]
	w.lines -= len(lines)
	w.bytes -= size
	return next, lines
}

// shipped returns the text of a record as the server gets it, and whether it gets
// it at all: a line that was shown whole as the last state of a progress bar is
// not sent twice.
func shipped(r logstream.Record) (string, bool) {
	if r.Repeats() {
		return "", false
	}
	return logstream.StripANSI(r.Text), true
}
