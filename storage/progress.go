package storage

import (
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
)

const (
	sampleEvery = 250 * time.Millisecond
	rateSpan    = 20 // samples that a rate is computed from: 5 s
	logEvery    = time.Second
	logSeldom   = 10 * time.Second // between lines of a long copy
)

// A requestLog tells one request how its model is provided: by lines in the job's
// log and by its callback.
type requestLog struct {
	log      io.Writer
	progress func(Progress)

	started, next time.Time // of lines about progress
}

func newRequestLog(req Request) *requestLog {
	return &requestLog{log: req.Log, progress: req.Progress}
}

// line writes a line into the job's log and ignores errors of the log. It stays
// one line, whatever names of files are in it.
func (r *requestLog) line(text string) {
	if r.log != nil {
		_, _ = io.WriteString(r.log, base.Escape(text)+"\n")
	}
}

// update reports the copy's progress: each time to the callback, and to the log
// once a second at first and less often in a long copy.
func (r *requestLog) update(model string, p Progress) {
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
	text := fmt.Sprintf("copying %s: %s of %s (%d%%)", model, base.Size(p.BytesDone), base.Size(p.BytesTotal), p.BytesDone*100/max(p.BytesTotal, 1))
	if p.Rate > 0 {
		text += fmt.Sprintf(", %s/s", base.Size(int64(p.Rate)))
	}
	if p.Remaining > 0 {
		text += fmt.Sprintf(", %v left", p.Remaining.Round(time.Second))
	}
	return text
}

// A meter computes progress from counts.
type meter struct {
	mu      sync.Mutex
	now     Progress // guarded by mu
	samples []sample // guarded by mu
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

// add adds the current counts.
func (m *meter) add(done, total int64, files, filesTotal int) Progress {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if n := len(m.samples); n > 0 && done < m.samples[n-1].done {
		m.samples = m.samples[:0] // the copy was restarted
	}
	m.samples = append(m.samples, sample{now, done})
	if len(m.samples) > rateSpan {
		m.samples = m.samples[1:]
	}
	m.now = Progress{BytesDone: done, BytesTotal: total, FilesDone: files, FilesTotal: filesTotal}
	first := m.samples[0]
	if took := now.Sub(first.at).Seconds(); took > 0 && done > first.done {
		m.now.Rate = float64(done-first.done) / took
		left := float64(total-done) / m.now.Rate
		m.now.Remaining = time.Duration(min(left, float64(math.MaxInt32)) * float64(time.Second))
	}
	return m.now
}
