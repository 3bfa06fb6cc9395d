package native

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/engine"
	"github.com/kirizan/kitt-agent/runner/supervisor"
)

// A run is an engine that runs, or is being started or stopped.
type run struct {
	spec   engine.Spec
	dir    string // of the engine
	relay  relay
	cancel context.CancelCauseFunc // ends it, or with runner.ErrDetach leaves it alone

	ended   chan struct{} // closed when it is gone, or nobody follows it any more
	how     error         // how it ended, nil if it was stopped; set before ended is closed
	stopErr error         // why it may still run; likewise

	mu  sync.Mutex
	rec record // guarded by mu
}

func (r *run) record() record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rec
}

// update changes the record, on disk too. A disk that refuses it holds nothing up: what
// is on disk then leads to another look at the engine.
func (r *run) update(change func(*record)) error {
	r.mu.Lock()
	change(&r.rec)
	rec := r.rec
	r.mu.Unlock()
	return rec.write(r.dir)
}

// pid returns the PID of the engine's process, 0 before there is one.
func (r *run) pid() int {
	dir, err := supervisor.OpenDir(filepath.Join(r.dir, runDir, "process"))
	if err != nil {
		return 0
	}
	defer dir.Close()
	claim, found, err := dir.Claim()
	if err != nil || !found {
		return 0
	}
	return claim.Child.PID
}

// job returns the run as package process knows it.
func (m *Manager) job(r *run) runner.Job {
	dir := filepath.Join(r.dir, runDir)
	return runner.Job{ID: r.record().Launch.ID, Dir: dir, ResultsDir: dir, StopGrace: m.cfg.StopGrace}
}

// follow runs an engine, or resumes one that runs, in a goroutine of its own.
func (m *Manager) follow(ctx context.Context, r *run, resume bool) {
	m.following.Go(func() {
		defer r.cancel(nil)
		p := m.process(r.record())
		var err error
		if resume {
			_, err = p.Resume(ctx, m.job(r), 0, &r.relay)
		} else {
			_, err = p.Run(ctx, m.job(r), &r.relay)
		}
		m.over(ctx, r, err)
	})
}

// resume finds an engine again that an earlier manager started.
func (m *Manager) resume(spec engine.Spec, rec record) {
	ctx, cancel := context.WithCancelCause(context.Background())
	r := &run{spec: spec, dir: m.dirOf(spec.Name), cancel: cancel, ended: make(chan struct{}), rec: rec}
	r.relay.keep = !rec.Ready // until the job that starts it asks for it
	m.runs[spec.Name] = r
	m.log.Info("engine found again", "engine", spec.Name, "since", rec.Started, "healthy", rec.Ready)
	m.follow(ctx, r, true)
}

// over records how a run ended with err.
func (m *Manager) over(ctx context.Context, r *run, err error) {
	cause := context.Cause(ctx)
	detached := errors.Is(cause, runner.ErrDetach) && errors.Is(err, cause)
	switch {
	case detached:
		r.how = cause
	case errors.Is(err, runner.ErrStillRunning):
		r.how, r.stopErr = err, err
	case errors.Is(err, runner.ErrNotStarted):
		r.how = err
		_ = os.Remove(filepath.Join(r.dir, recordFile)) // the job that wanted it starts it
	case cause != nil && errors.Is(err, cause): // it was stopped
	case err == nil:
		r.how = errors.New("it ended by itself, with status 0")
	default:
		r.how = err
	}
	if !detached && r.stopErr == nil && !errors.Is(err, runner.ErrNotStarted) {
		_ = r.update(func(rec *record) { // the next manager finds out for itself
			rec.Ended = time.Now().UTC()
			if r.how != nil {
				rec.How = r.how.Error()
			}
		})
		m.log.Info("engine ended", "engine", r.spec.Name, "how", howText(r.how))
	}
	m.mu.Lock()
	if !detached && r.stopErr == nil && m.runs[r.spec.Name] == r {
		delete(m.runs, r.spec.Name)
	}
	m.mu.Unlock()
	close(r.ended)
}

func howText(how error) string {
	if how == nil {
		return "stopped"
	}
	return how.Error()
}

// end ends a run because of cause, and returns once it is gone.
func (r *run) end(cause error) error {
	r.cancel(cause)
	<-r.ended
	return r.stopErr
}

// newDir makes the directory of a new run, and removes that of the one before.
func newDir(dir string) error {
	path := filepath.Join(dir, runDir)
	if err := os.RemoveAll(path); err != nil {
		return fmt.Errorf("remove the files of the run before: %w", err)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("make the directory of the run: %w", err)
	}
	return base.SyncDir(dir)
}
