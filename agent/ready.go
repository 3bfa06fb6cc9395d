package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/kirizan/kitt-agent/agent/health"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/storage"
)

// Problems returns what keeps the agent from its work, or soon will, those first that
// explain the others; none if all is well. A server that is away after it accepted the
// agent is no problem of the agent's: it runs what it has, and keeps its reports.
func (a *Agent) Problems() []health.Problem {
	if since, _ := a.uptime(); since.IsZero() {
		return []health.Problem{health.New(health.Stopped, "")}
	}
	if !a.registry.isAccepting() {
		return []health.Problem{health.New(health.Stopping, "")}
	}
	problems := append([]health.Problem{}, a.host.Problems()...)
	add := func(reason health.Reason, detail string) {
		problems = append(problems, health.New(reason, a.secrets.Text(detail)))
	}
	if err := a.Alive(); err != nil {
		add(health.Stuck, err.Error())
	}
	beat := a.beats.State()
	switch two := a.duplicates.two(); {
	case two != "":
		add(health.Duplicate, two)
	case beat.Refusal != "":
		add(health.Refused, beat.Refusal)
	case !beat.Registered:
		add(health.Unregistered, beat.LastError)
	}
	a.addMachine(add)
	health.Sort(problems)
	return problems
}

// addMachine adds what the latest readings of the machine and the runner say.
func (a *Agent) addMachine(add func(health.Reason, string)) {
	now := a.host.Latest()
	if now.Telemetry.Fault != "" {
		add(health.GPU, now.Telemetry.Fault)
	}
	if err := a.cannotRun(now.Start); err != nil {
		add(health.Runner, err.Error())
	} else if errors.Is(now.Start, runner.ErrNotReady) {
		add(health.Engine, now.Start.Error())
	}
	switch low := a.cfg.DiskLow; {
	case now.Usage != nil && *now.Usage != (storage.Usage{}) && now.Usage.FreeBytes < low:
		add(health.DiskLow, base.Size(now.Usage.FreeBytes)+" are free where models are kept")
	case now.FreeBytes != nil && *now.FreeBytes < low:
		add(health.DiskLow, fmt.Sprintf("%s are free in %s", base.Size(*now.FreeBytes), a.cfg.Dir))
	}
}

// cannotRun returns why the runner can run no job, if that is known. start is what it
// last said of starting one.
func (a *Agent) cannotRun(start error) error {
	if c, ok := runner.As[runner.Checker](a.cfg.Runner); ok {
		if err := c.Check(); err != nil {
			return err
		}
	}
	if errors.Is(start, runner.ErrUnavailable) {
		return start
	}
	return nil
}

// checkStart returns what asks the runner whether it can start a job, nil if it can't
// be asked.
func (cfg Config) checkStart() func(context.Context) error {
	c, ok := runner.As[runner.StartChecker](cfg.Runner)
	if !ok {
		return nil
	}
	return func(ctx context.Context) (err error) {
		defer func() {
			if p := recover(); p != nil { // as when it runs a job: that is one job's failure
				err = fmt.Errorf("the runner panicked: %v", p)
			}
		}()
		return c.CheckStart(ctx)
	}
}

// freeBytes returns how many bytes are free where the agent keeps its jobs.
func (cfg Config) freeBytes(context.Context) (int64, error) {
	free, _, err := storage.DiskSpace(cfg.Dir)
	return free, err
}

// getReady answers whether the agent can do work. Its loops may work while it can't,
// which is what /healthz is about.
func (a *api) getReady(w http.ResponseWriter, r *http.Request) {
	problems := a.Problems()
	if !a.trusts(r) {
		for i := range problems {
			problems[i].Detail = ""
		}
	}
	if first, blocked := health.Blocking(problems); blocked {
		answer(w, http.StatusServiceUnavailable, map[string]any{"status": first.Reason, "error": first.String(), "problems": problems})
		return
	}
	status := "ready"
	if len(problems) > 0 {
		status = "degraded"
	}
	answer(w, http.StatusOK, map[string]any{"status": status, "problems": problems})
}
