package agent

import (
	"cmp"
	"context"
	"errors"
	"net/http"

	"github.com/kirizan/kitt-agent/agent/internal/enginejobs"
	"github.com/kirizan/kitt-agent/agent/internal/execution"
	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/agent/policy"
	"github.com/kirizan/kitt-agent/heartbeat"
)

// An EngineConflict says what becomes of a benchmark that needs the GPUs that an engine
// holds which the agent started: after Wait it fails, or with Restart the engine is
// stopped, and started again after the benchmark.
type EngineConflict = enginejobs.Conflict

// submitRestart makes the job that starts an engine again after a benchmark.
func (a *Agent) submitRestart(c jobs.Command) error {
	_, release, err := a.registry.acquire()
	if err != nil {
		return err
	}
	defer release()
	if _, err := a.intake.submit(c, jobs.FromProgram); !errors.Is(err, ErrDuplicate) {
		return err
	}
	return nil
}

// postStopEngine stops an engine and answers once it has stopped, as the protocol says.
// It is a job like others, which goes on if the caller does not wait.
func (a *api) postStopEngine(w http.ResponseWriter, r *http.Request, cmd heartbeat.Command) {
	id, err := a.submitSoon(cmd)
	a.audit.command(policy.ByCaller, r.RemoteAddr, heartbeat.Command{Type: cmd.Type, ID: cmp.Or(id, cmd.ID)}, "", err)
	if err != nil {
		answer(w, http.StatusOK, map[string]any{"success": false, "error": err.Error()})
		return
	}
	limit := a.cfg.StopGrace + execution.CleanTimeout
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	defer cancel()
	extendWriting(w, limit)
	o, ended := a.awaitOutcome(ctx, id)
	text := o.Error
	if !ended {
		text = "the engine is still being stopped"
	}
	answer(w, http.StatusOK, map[string]any{"success": ended && o.State == jobs.StateCompleted, "error": text, "command_id": id})
}

// awaitOutcome waits until a job has ended.
func (a *Agent) awaitOutcome(ctx context.Context, id string) (o jobs.Outcome, ended bool) {
	stopped, release, err := a.registry.acquire()
	if err != nil {
		return o, false
	}
	defer release()
	j := a.registry.find(id)
	if j == nil {
		return o, false
	}
	for {
		changed := j.Changed()
		if rec := j.Record(); rec.State.Ended() {
			return *rec.Outcome, true
		}
		select {
		case <-changed:
		case <-stopped:
			return o, false
		case <-ctx.Done():
			return o, false
		}
	}
}
