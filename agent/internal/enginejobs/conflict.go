package enginejobs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/engine"
)

// A Conflict says what becomes of a benchmark that needs the GPUs that a running engine
// holds. The zero Conflict fails it.
type Conflict struct {
	Wait    time.Duration // how long the benchmark waits for the engine to end, before it fails
	Restart bool          // whether the engine is stopped, and started again after the benchmark
}

// MakeRoom returns nil once no engine of the agent's holds the GPUs that the benchmark j
// needs. While it waits, waiting is told for what.
func (e *Jobs) MakeRoom(ctx context.Context, j *jobs.Job, out runner.Output, waiting func(error)) error {
	began := time.Now()
	for e.anyRuns(ctx) {
		all, err := e.cfg.Manager.Detect(ctx)
		if err != nil {
			return err
		}
		var holder *engine.Status
		for i := range all {
			if all[i].Launch != nil {
				holder = &all[i]
			}
		}
		if holder == nil {
			return nil
		}
		left := e.cfg.Conflict.Wait - time.Since(began)
		switch {
		case e.cfg.Conflict.Restart:
			err = e.suspend(ctx, j, *holder, out)
		case left > 0:
			err = e.awaitEnd(ctx, *holder, left, waiting)
		default:
			err = busy(*holder, e.cfg.Conflict.Wait)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// errRuns ends a context with which Watch says at once whether an engine runs.
var errRuns = errors.New("an engine runs")

// anyRuns reports whether an engine of the agent's runs. Detect would know more, but looks
// at the machine, whose directories may hang.
func (e *Jobs) anyRuns(ctx context.Context) bool {
	ctx, cancel := context.WithCancelCause(ctx)
	cancel(errRuns)
	return slices.ContainsFunc(engine.Specs(), func(s engine.Spec) bool {
		return errors.Is(e.cfg.Manager.Watch(ctx, s.Name), errRuns)
	})
}

// busy returns the error for a benchmark that an engine keeps from the GPUs.
func busy(s engine.Status, waited time.Duration) error {
	after := ""
	if waited > 0 {
		after = fmt.Sprintf(" after a wait of %s", waited)
	}
	return fault.New(engine.ClassBusy, fmt.Sprintf("kitt-agent engines stop %s, or set engines.on_conflict in agent.yaml", s.Name),
		"the engine %s (PID %d, port %d) holds the GPUs%s", s.Name, s.PID, s.Port, after)
}

// awaitEnd waits until an engine has ended, or the limit is over.
func (e *Jobs) awaitEnd(ctx context.Context, s engine.Status, limit time.Duration, waiting func(error)) error {
	waiting(fmt.Errorf("the engine %s (PID %d, port %d) holds the GPUs", s.Name, s.PID, s.Port))
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_ = e.cfg.Manager.Watch(within, s.Name) // how it ended makes no difference
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// A restart is what is to be started again after a job.
type restart struct {
	Job    string        `json:"job"`
	Launch engine.Launch `json:"launch"`
}

const maxRestart = 1 << 20 // bytes of its file

// restartPath returns the file of what is to be started again after a job.
func (e *Jobs) restartPath(id string) string {
	return filepath.Join(e.holders(), "restart", id+".json")
}

// suspend stops an engine until the benchmark j has ended. That it is to be started again
// is on disk first.
func (e *Jobs) suspend(ctx context.Context, j *jobs.Job, s engine.Status, out runner.Output) error {
	path := e.restartPath(j.ID)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("note that %s is to be started again: %w", s.Name, err)
	}
	if err := base.WriteJSON(path, restart{j.ID, *s.Launch}, maxRestart); err != nil {
		return fmt.Errorf("note that %s is to be started again: %w", s.Name, err)
	}
	if err := out.WriteMessage(fmt.Sprintf("The engine %s holds the GPUs: it is stopped, and started again after the benchmark", s.Name)); err != nil {
		return err
	}
	defer e.cfg.Changed(context.WithoutCancel(ctx))
	if err := e.cfg.Manager.Stop(ctx, s.Name, out); err != nil && !errors.Is(err, engine.ErrNotRunning) {
		return err
	}
	return nil
}

// Ended starts the engine again that was stopped for a job which has ended.
func (e *Jobs) Ended(j *jobs.Job) { e.startAgain(j.ID) }

// startAgain makes the job that starts an engine again after the job with an ID. If it
// can't be made now, the next agent does so.
func (e *Jobs) startAgain(id string) {
	path := e.restartPath(id)
	var r restart
	err := base.ReadJSON(path, &r, maxRestart)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	if err == nil {
		c := jobs.Command{ID: restartID(id), Type: jobs.TypeStartEngine, Spec: jobs.Spec{
			Engine: r.Launch.Engine, Model: r.Launch.Requested, RuntimeConfig: r.Launch.Config,
		}}
		err = e.cfg.Submit(c)
	}
	if err != nil {
		e.log.Warn("engine not started again after a benchmark", "job", id, "engine", r.Launch.Engine, "err", err)
		return
	}
	if err := os.Remove(path); err != nil {
		e.log.Warn("record of an engine to start again not removed", "path", path, "err", err)
	}
}

// restartID returns the ID of the job that starts an engine again after another one, so
// that it is made once.
func restartID(id string) string {
	const prefix = "restart-"
	return prefix + id[:min(len(id), 64-len(prefix))]
}

// startAllAgain does so for the jobs that ended while no agent ran.
func (e *Jobs) startAllAgain() {
	files, _ := filepath.Glob(filepath.Join(e.holders(), "restart", "*.json")) // the pattern is well formed
	for _, file := range files {
		if id := strings.TrimSuffix(filepath.Base(file), ".json"); !e.cfg.Live(id) {
			e.startAgain(id)
		}
	}
}
