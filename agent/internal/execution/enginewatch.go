package execution

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/kirizan/kitt-agent/agent/internal/engineport"
	"github.com/kirizan/kitt-agent/hwdetect/integrity"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
)

// watchEngine returns what looks at the engine's port during a run; nil if it is not to be watched.
func (x *execution) watchEngine() func(context.Context) []integrity.Reason {
	spec := x.job.Command.Spec
	port, known := x.enginePort()
	owner, ok := runner.As[runner.Owner](x.cfg.Runner)
	if !x.cfg.CheckEnginePort || !known || !ok {
		return nil
	}
	local := spec.Engine == ollama && x.runnerJob().Mode != modeDocker
	return func(ctx context.Context) []integrity.Reason {
		holder, err := engineport.Find(os.DirFS("/"), port)
		switch {
		case err != nil || holder == nil:
			return nil // the engine is not up yet, or not any more
		case local && holder.IsOllama():
			return x.watchOllama(ctx, port)
		case holder.PID == 0:
			return nil // another user's process, which may be the engine
		}
		own, err := owner.Owns(ctx, []runner.Job{x.runnerJob()}, []int{holder.PID})
		if err != nil || slices.Contains(own, holder.PID) {
			return nil
		}
		return []integrity.Reason{{
			Code: "engine_port", Severity: integrity.Invalid, Value: float64(port),
			Text:   fmt.Sprintf("%s answered on port %d, and not this benchmark's %s", holder, port, spec.Engine),
			Remedy: "end that process, and repeat the run",
		}}
	}
}

// watchOllama returns a warning for each model that ollama has loaded and the job did not
// ask for.
func (x *execution) watchOllama(ctx context.Context, port int) (reasons []integrity.Reason) {
	if filepath.IsAbs(x.job.Command.Spec.Model) {
		return nil // ollama has another name for it
	}
	models, err := engineport.LoadedInOllama(ctx, port)
	if err != nil {
		return nil
	}
	for _, model := range models {
		if !engineport.SameModel(model, x.job.Command.Spec.Model) {
			reasons = append(reasons, integrity.Reason{
				Code: "other_model", Severity: integrity.Warning, Value: 1,
				Text:   fmt.Sprintf("ollama had %s loaded, which the job did not ask for", base.Printable(model, 120)),
				Remedy: "ollama stop " + base.Printable(model, 120),
			})
		}
	}
	return reasons
}
