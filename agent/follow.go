package agent

import (
	"context"
	"errors"
	"io"
	"iter"
	"sync"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/agent/internal/outbox"
	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/logstream"
)

// ErrNotEnded is matched by the error of a Result that came before the job's end.
var ErrNotEnded = errors.New("the job has not ended yet")

// Job returns the status of the job of the command or test with the given id. The
// error matches [ErrNoJob] if there is none.
func (a *Agent) Job(id string) (JobStatus, error) {
	j := a.registry.find(id)
	if j == nil {
		return JobStatus{}, ErrNoJob
	}
	return a.jobStatus(j), nil
}

// Wait waits until the job of the command or test with the given id has ended, and
// returns its status. How the job ended is in the status; the error is ctx's, or matches
// [ErrNoJob], or [ErrStopping] if Run ends before the job does.
func (a *Agent) Wait(ctx context.Context, id string) (JobStatus, error) {
	j := a.registry.find(id)
	if j == nil {
		return JobStatus{}, ErrNoJob
	}
	var stopped <-chan struct{}
	for {
		changed := j.Changed()
		if j.State().Ended() {
			return a.jobStatus(j), nil
		}
		if stopped == nil {
			var release func()
			var err error
			if stopped, release, err = a.registry.acquire(); err != nil {
				return a.jobStatus(j), ErrStopping
			}
			release() // it uses no files
		}
		select {
		case <-changed:
		case <-stopped:
			return a.jobStatus(j), ErrStopping
		case <-ctx.Done():
			return a.jobStatus(j), ctx.Err()
		}
	}
}

// Result returns the result of the job of the command or test with the given id, as the
// server gets it. The error matches [ErrNoJob], [ErrNotEnded], or [ErrNotAccepting]
// while Run isn't running.
func (a *Agent) Result(id string) (reporter.Result, error) {
	_, release, err := a.registry.acquire()
	if err != nil {
		return reporter.Result{}, err
	}
	defer release()
	j := a.registry.find(id)
	if j == nil {
		return reporter.Result{}, ErrNoJob
	}
	if !j.State().Ended() {
		return reporter.Result{}, ErrNotEnded
	}
	return outbox.ReadResult(j)
}

// A JobLog reads a job's log from its first line, and follows it until the job has
// ended. It is used by one goroutine at a time, and closed when done.
type JobLog struct {
	reader  *logstream.Reader
	release func() // of the log and of the agent's files
	stopped <-chan struct{}

	mu     sync.Mutex // held during Next
	closed bool       // guarded by mu
	done   chan struct{}
	once   sync.Once
}

// OpenLog opens the log of the job of the command or test with the given id. A job that
// waits has no log yet: OpenLog waits with it, until ctx is done. The error matches
// [ErrNoJob] if there is no such job or log, and [ErrNotAccepting] while Run isn't
// running.
func (a *Agent) OpenLog(ctx context.Context, id string) (*JobLog, error) {
	stopped, release, err := a.registry.acquire()
	if err != nil {
		return nil, err
	}
	log, closeLog, err := a.openLog(ctx, a.registry.find(id), stopped)
	if err != nil {
		release()
		return nil, err
	}
	l := &JobLog{reader: log.Reader(0), stopped: stopped, done: make(chan struct{})}
	unfollow := a.logs.Follow()
	l.release = func() {
		unfollow()
		closeLog()
		release()
	}
	go func() { // Run waits for readers, so they end with it
		select {
		case <-stopped:
			_ = l.Close()
		case <-l.done:
		}
	}()
	return l, nil
}

// LogTail returns the last lines of the log of the job of the command or test with the
// given id, at most n, as far as there are any now. Its errors are those of OpenLog; it
// waits for no line.
func (a *Agent) LogTail(ctx context.Context, id string, n int) ([]string, error) {
	_, release, err := a.registry.acquire()
	if err != nil {
		return nil, err
	}
	defer release()
	j := a.registry.find(id)
	if j == nil || !j.Log.Exists() {
		return nil, ErrNoJob
	}
	log, closeLog, err := a.logs.Open(j)
	if err != nil {
		return nil, err
	}
	defer closeLog()
	end := log.Len()
	// A line may have several records: states that it had before.
	reader := log.Reader(end - int64(n)*recordsPerLine)
	defer reader.Close()
	var lines []string
	for reader.Seq() < end {
		records, err := reader.Next(ctx)
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			if !r.Repeats() && r.Kind != logstream.Progress {
				lines = append(lines, r.Text)
			}
		}
		lines = lines[max(0, len(lines)-n):]
	}
	return lines, nil
}

// recordsPerLine is how many records LogTail reads for each line that it wants.
const recordsPerLine = 8

// openLog waits until j has a log, and opens it.
func (a *Agent) openLog(ctx context.Context, j *jobs.Job, stopped <-chan struct{}) (*logstream.Log, func(), error) {
	if j == nil {
		return nil, nil, ErrNoJob
	}
	for {
		changed := j.Changed()
		if j.State() != jobs.StateAccepted {
			break
		}
		select {
		case <-changed:
		case <-stopped:
			return nil, nil, ErrStopping
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
	if !j.Log.Exists() {
		return nil, nil, ErrNoJob
	}
	return a.logs.Open(j)
}

// Next returns the next records, at least one. It waits for some if there are none yet.
// The error is [io.EOF] after the last one of a job that has ended, and matches
// [ErrStopping] when the agent's Run ends.
func (l *JobLog) Next(ctx context.Context) ([]logstream.Record, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, io.ErrClosedPipe
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-l.stopped:
			cancel(ErrStopping)
		case <-ctx.Done():
		}
	}()
	records, err := l.reader.Next(ctx)
	if err != nil && errors.Is(context.Cause(ctx), ErrStopping) {
		err = ErrStopping
	}
	return records, err
}

// Records returns the records from the next one on, to the end of the log; see
// [JobLog.Next]. The last pair has the error, unless the log has ended.
func (l *JobLog) Records(ctx context.Context) iter.Seq2[logstream.Record, error] {
	return func(yield func(logstream.Record, error) bool) {
		for {
			records, err := l.Next(ctx)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(logstream.Record{}, err)
				return
			}
			for _, r := range records {
				if !yield(r, nil) {
					return
				}
			}
		}
	}
}

// Close ends the reading. It may be called more than once.
func (l *JobLog) Close() error {
	var err error
	l.once.Do(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.closed = true
		close(l.done)
		err = l.reader.Close()
		l.release()
	})
	return err
}
