package execution

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/kirizan/kitt-agent/agent/internal/engineport"
	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
)

// classPort is the class of a job whose engine's port another process holds.
const classPort = "port"

const (
	// fitPause is the time between two looks at the GPUs before a benchmark.
	fitPause = 2 * time.Second

	// busySM is the use of a GPU's SMs by others from which a benchmark waits, in
	// percent. Less is less than what runs vary by.
	busySM = 1.0
)

const (
	ollama     = "ollama"
	modeDocker = "docker"
)

// awaitFit waits before a benchmark until no other process uses the GPUs and until they
// are cool, each for as long as the owner wants, and looks at the engine's port. It
// returns the cause when ctx is done.
func (x *execution) awaitFit(ctx context.Context) error {
	if err := x.checkPort(); err != nil {
		return err
	}
	cfg := x.cfg.Integrity
	waited := false
	for _, w := range []struct {
		limit  time.Duration
		reason func(context.Context) string // empty if there is no more to wait for
	}{{cfg.WaitIdle, x.occupied}, {cfg.coolLimit(), x.warm}} {
		if cfg.Recorder == nil || w.limit <= 0 {
			continue
		}
		again, err := x.awaitReason(ctx, w.limit, w.reason)
		if err != nil {
			return err
		}
		waited = waited || again
	}
	if waited {
		return x.checkPort()
	}
	return nil
}

// awaitReason waits until there is no more reason to, at most for limit, and reports
// whether it waited at all.
func (x *execution) awaitReason(ctx context.Context, limit time.Duration, why func(context.Context) string) (waited bool, err error) {
	defer x.unblock()
	x.told = false
	begun := time.Now()
	for {
		reason := why(ctx)
		if ctx.Err() != nil {
			return waited, context.Cause(ctx)
		}
		after := time.Since(begun)
		switch {
		case reason == "" && waited:
			x.jobLog.Note(fmt.Sprintf("Waited for %s", after.Round(time.Second)))
			return true, nil
		case reason == "":
			return false, nil
		case after >= limit:
			x.jobLog.Note(fmt.Sprintf("Warning: starting after %s all the same: %s", after.Round(time.Second), reason))
			return true, nil
		}
		waited = true
		x.block(errors.New(reason))
		if err := base.Wait(ctx, min(fitPause, limit-after)); err != nil {
			return true, err
		}
	}
}

// occupied returns which process of others computes on a GPU.
func (x *execution) occupied(ctx context.Context) string {
	list, err := x.cfg.Integrity.Recorder.Foreign(ctx, x.foreign)
	if err != nil {
		return "" // the report says that it is not known
	}
	for _, p := range list {
		if p.SMPct != nil && *p.SMPct > busySM {
			return fmt.Sprintf("process %d (%s of %s) uses %.3g%% of GPU %d", p.PID, cmp.Or(p.Command, "unknown"), cmp.Or(p.Owner, "unknown"), *p.SMPct, p.GPU)
		}
	}
	return ""
}

// warm returns which GPU is warmer than a benchmark is to begin with.
func (x *execution) warm(ctx context.Context) string {
	sample, err := x.cfg.Integrity.Recorder.Sample(ctx)
	if err != nil && len(sample.GPUs) == 0 {
		return x.wasWarm // no new reading
	}
	x.wasWarm = ""
	for _, g := range sample.GPUs {
		if g.TemperatureC != nil && *g.TemperatureC > x.cfg.Integrity.WaitCool {
			x.wasWarm = fmt.Sprintf("GPU %d has %.0f °C, and is to have at most %.0f °C", g.Index, *g.TemperatureC, x.cfg.Integrity.WaitCool)
			break
		}
	}
	return x.wasWarm
}

var (
	errNoOwner      = errors.New("this runner can't tell its own processes from others")
	errOtherProcess = errors.New("the processes on the GPUs can't be seen from here; run the agent in the host's PID namespace")
)

// foreign returns those processes that belong neither to this job nor to another one of
// this agent.
func (x *execution) foreign(ctx context.Context, all []hwdetect.GPUProcess) ([]hwdetect.GPUProcess, error) {
	owner, ok := runner.As[runner.Owner](x.cfg.Runner)
	if !ok {
		return nil, errNoOwner
	}
	var active []runner.Job
	for _, j := range x.cfg.Queue.Active() {
		if j.IsBenchmark() {
			active = append(active, (&execution{Executor: x.Executor, job: j}).runnerJob())
		}
	}
	pids := make([]int, len(all))
	for i, p := range all {
		pids[i] = p.PID
	}
	own, err := owner.Owns(ctx, active, pids)
	if err != nil {
		return nil, err
	}
	ours := map[int]bool{}
	for _, pid := range own {
		ours[pid] = true
	}
	var others []hwdetect.GPUProcess
	for _, p := range all {
		// One that has ended is nobody's, and so is one of another PID namespace.
		if seen := p.Command != "" || p.Owner != ""; seen && !ours[p.PID] {
			others = append(others, p)
		}
	}
	if len(own) == 0 && len(others) == 0 {
		return nil, errOtherProcess
	}
	return others, nil
}

// checkPort returns an error if another process holds the port on which the engine is to
// listen: the benchmark would measure that one, and pass.
func (x *execution) checkPort() error {
	if !x.cfg.CheckEnginePort || !x.job.IsBenchmark() {
		return nil
	}
	spec := x.job.Command.Spec
	port, known := x.enginePort()
	if !known {
		x.jobLog.Note(fmt.Sprintf("The port of the engine %s is not known, so it is not checked whether another server holds it", base.Printable(spec.Engine, 80)))
		return nil
	}
	holder, err := engineport.Find(os.DirFS("/"), port)
	if err != nil {
		x.log.Warn("the engine's port is not checked", "job", x.job.ID, "err", err)
		x.jobLog.Note(fmt.Sprintf("Warning: it is not known whether another server holds the engine's port: %v", err))
		return nil
	}
	if holder == nil || spec.Engine == ollama && x.runnerJob().Mode != modeDocker && holder.IsOllama() {
		return nil // ollama's own service is what serves a local ollama
	}
	return &runner.Error{
		Class: classPort,
		Text:  fmt.Sprintf("port %d, on which %s is to listen, is held by %s: the benchmark would measure that server, and not the requested model", port, spec.Engine, holder),
		Fix:   "end that process; if it is an engine that the agent started, send stop_engine first",
	}
}

// enginePort returns the port on which the engine of the job listens, and whether it is
// known: that of its profile, or the engine's usual one.
func (x *execution) enginePort() (port int, known bool) { return portOf(x.job) }

// portOf returns the port on which the engine of j listens, as enginePort does. Of a job
// that waits, the profile is not known yet.
func portOf(j *jobs.Job) (port int, known bool) {
	if port := j.Record().EnginePort; port > 0 {
		return port, true
	}
	return engineport.Default(j.Command.Spec.Engine)
}
