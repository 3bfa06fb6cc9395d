package execution

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/logstream"
	"github.com/kirizan/kitt-agent/runner"
)

// Logs opens the logs of jobs.
type Logs struct {
	Secrets []string // redacted in every log
	Logger  *slog.Logger

	// Released is called after a user has released a job's log. Set it before the
	// first Open.
	Released func(*jobs.Job)

	followers atomic.Int64
}

// Follow counts a reader that follows a log until it calls done.
func (l *Logs) Follow() (done func()) {
	l.followers.Add(1)
	return func() { l.followers.Add(-1) }
}

// FollowWithin is like Follow, but admits nobody beyond limit readers.
func (l *Logs) FollowWithin(limit int) (done func(), admitted bool) {
	if l.followers.Add(1) > int64(limit) {
		l.followers.Add(-1)
		return nil, false
	}
	return func() { l.followers.Add(-1) }, true
}

// Followers returns how many readers follow a log.
func (l *Logs) Followers() int { return int(l.followers.Load()) }

// Open opens j's log for the caller, who calls release once when done. A job whose
// log has no end, because of a full disk or a crash, gets it now.
func (l *Logs) Open(j *jobs.Job) (log *logstream.Log, release func(), err error) {
	log, done, err := j.Log.Use(logstream.Options{Secrets: l.Secrets, Logger: l.Logger.With("job", j.ID)})
	if err != nil {
		return nil, nil, err
	}
	if rec := j.Record(); rec.State.Ended() && !log.Finished() {
		if err := endLog(j, log, *rec.Outcome); err != nil {
			l.Logger.Warn("end of the log not written", "job", j.ID, "err", err)
		}
	}
	return log, func() {
		if err := done(); err != nil {
			l.Logger.Warn("log not closed", "job", j.ID, "err", err)
		}
		l.Released(j)
	}, nil
}

// endLog ends j's log with what there is to say of its outcome.
func endLog(j *jobs.Job, log *logstream.Log, o jobs.Outcome) error {
	last := []string{logEnding(j, o)}
	if text := logReason(o); text != "" {
		last = []string{text, last[0]}
	}
	if o.Machine != nil {
		last = append(last, o.Machine.Text)
	}
	return log.Finish(logstream.Final{Status: string(o.State), Error: o.Error}, last...)
}

// output is the [runner.Output] that writes to a job's log. Its methods never
// fail: the log itself says what the disk did not take.
type output struct{ log *logstream.Log }

var _ runner.Output = output{}

// WriteMessage writes each line of text as a line of the agent's own.
func (o output) WriteMessage(text string) error {
	for line := range strings.Lines(text) {
		o.log.Note(strings.TrimRight(line, "\r\n"))
	}
	return nil
}

// WriteOutput appends what the benchmark printed.
func (o output) WriteOutput(p []byte, at time.Time, from runner.Position) error {
	o.log.Append(p, at, logstream.Position{Byte: int64(from)})
	return nil
}

// OldPosition and WriteOldOutput are for package runner/docker, which follows
// containers of agents from before v0.1.0 to their end. They are removed in v0.2.0.
func (o output) OldPosition() (stamp, count, byteAt int64) {
	p := o.log.Position()
	return p.Stamp, p.Count, p.Byte
}

// WriteOldOutput appends what such a container printed.
func (o output) WriteOldOutput(p []byte, at time.Time, stamp, count, byteAt int64) error {
	o.log.Append(p, at, logstream.Position{Stamp: stamp, Count: count, Byte: byteAt})
	return nil
}

// A messageWriter turns text in pieces of any size into whole lines of the agent's
// own in a job's log.
type messageWriter struct {
	log *logstream.Log

	mu   sync.Mutex
	open []byte // a line that has not ended. guarded by mu
}

// maxOpenLine bounds a line that doesn't end, in bytes.
const maxOpenLine = 64 << 10

func (w *messageWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open = append(w.open, p...)
	for {
		line, rest, ok := bytes.Cut(w.open, []byte("\n"))
		if !ok {
			break
		}
		w.log.Note(strings.TrimSuffix(string(line), "\r"))
		w.open = rest
	}
	if len(w.open) > maxOpenLine {
		w.log.Note(string(w.open))
		w.open = nil
	}
	return len(p), nil
}

// flush ends an open line.
func (w *messageWriter) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.open) > 0 {
		w.log.Note(string(w.open))
		w.open = nil
	}
}
