package storage

import (
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"time"
)

const (
	sampleEvery = 250 * time.Millisecond
	rateSpan    = 20 // samples that a rate is reckoned over: 5 s
	logEvery    = time.Second
	logSeldom   = 10 * time.Second // between lines of a copy that takes long
)

// A report is what one request hears of its model.
type report struct {
	log      io.Writer
	progress func(Progress)

	started, next time.Time // of lines about progress
}

func newReport(req Request) *report { return &report{log: req.Log, progress: req.Progress} }

// line writes a line into the job's log, whose faults are not the copy's. Names
// of files in it may be anything; it stays one line.
func (r *report) line(text string) {
	if r.log != nil {
		_, _ = io.WriteString(r.log, oneLine(text)+"\n")
	}
}

// update tells how far the copy is: each time by the callback, and in the log
// once a second at first and less often when it takes long.
func (r *report) update(model string, p Progress) {
	if r.progress != nil {
		r.progress(p)
	}
	now := time.Now()
	if r.started.IsZero() {
		r.started, r.next = now, now.Add(logEvery)
	}
	if now.Before(r.next) || p.BytesTotal == 0 {
		return
	}
	r.next = now.Add(min(max(logEvery, now.Sub(r.started)/10), logSeldom))
	r.line(progressText(model, p))
}

func progressText(model string, p Progress) string {
	text := fmt.Sprintf("copying %s: %s of %s (%d%%)", model, sizeText(p.BytesDone), sizeText(p.BytesTotal), p.BytesDone*100/max(p.BytesTotal, 1))
	if p.Rate > 0 {
		text += fmt.Sprintf(", %s/s", sizeText(int64(p.Rate)))
	}
	if p.Remaining > 0 {
		text += fmt.Sprintf(", %v left", p.Remaining.Round(time.Second))
	}
	return text
}

// A meter makes progress out of counts.
type meter struct {
	mu      sync.Mutex
	now     Progress
	samples []sample
}

type sample struct {
	at   time.Time
	done int64
}

func (m *meter) get() Progress {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// add takes the counts of this moment.
func (m *meter) add(done, total, files, filesTotal int64) Progress {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if n := len(m.samples); n > 0 && done < m.samples[n-1].done {
		m.samples = m.samples[:0] // the copy was begun anew
	}
	m.samples = append(m.samples, sample{now, done})
	if len(m.samples) > rateSpan {
		m.samples = m.samples[1:]
	}
	m.now = Progress{BytesDone: done, BytesTotal: total, FilesDone: int(files), FilesTotal: int(filesTotal)}
	first := m.samples[0]
	if took := now.Sub(first.at).Seconds(); took > 0 && done > first.done {
		m.now.Rate = float64(done-first.done) / took
		left := float64(total-done) / m.now.Rate
		m.now.Remaining = time.Duration(min(left, float64(math.MaxInt32)) * float64(time.Second))
	}
	return m.now
}

// sizeText writes a number of bytes for a person.
func sizeText(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	unit, value := 0, float64(n)/1024
	for value >= 1024 && unit < len(units)-1 {
		value /= 1024
		unit++
	}
	return strings.Replace(fmt.Sprintf("%.1f %ciB", value, units[unit]), ".0 ", " ", 1)
}
