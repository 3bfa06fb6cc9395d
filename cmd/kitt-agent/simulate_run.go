package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/agent/fleet"
	"github.com/kirizan/kitt-agent/agent/kittapi"
	"github.com/kirizan/kitt-agent/agent/reporter"
)

// simulateReport is what `simulate --json` prints.
type simulateReport struct {
	Server  string  `json:"server"`
	Seconds float64 `json:"seconds"` // from the first agent's start until all had stopped
	Dir     string  `json:"dir,omitempty"`
	fleet.Stats
	Launched    int64        `json:"launched"`    // by --jobs
	Interrupted bool         `json:"interrupted"` // by a signal
	Check       *fleet.Check `json:"check,omitempty"`
}

// checkTimeout bounds the check of all logs at the end.
const checkTimeout = 10 * time.Minute

// With so many agents most of the memory is theirs and stays, so it is worth
// collecting what comes and goes sooner: 10,000 agents that took 560 MB take 400.
const (
	manyAgents    = 1000
	manyGCPercent = 30
)

// simulate runs the fleet that cfg describes until it is done.
func (env *environment) simulate(ctx context.Context, s simulation, cfg fleet.Config, client *kittapi.Client) (err error) {
	if cfg.Dir, err = filepath.Abs(s.dir); err != nil {
		return err
	}
	if s.dir == "" {
		if cfg.Dir, err = os.MkdirTemp("", "kitt-simulate-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(cfg.Dir)) }()
	}
	runCtx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	tests := &launcher{client: client, s: s, launched: map[string]int{}, give: stop}
	cfg.Registered = tests.launch
	f, err := fleet.New(cfg)
	if err != nil {
		return &codedError{exitUsage, err.Error() + "\ntry: kitt-agent simulate --help"}
	}
	agents := len(f.Names())
	if err := enoughFiles(agents); err != nil {
		return err
	}
	if agents >= manyAgents {
		defer debug.SetGCPercent(debug.SetGCPercent(manyGCPercent))
	}
	if s.duration > 0 {
		timer := time.AfterFunc(s.duration, func() { stop(nil) })
		defer timer.Stop()
	}
	env.say("%d agents, jobs in %s; Ctrl-C stops them", agents, cfg.Dir)

	var side sync.WaitGroup
	if s.jobs > 0 {
		side.Go(func() {
			_ = f.WaitEnded(runCtx, int64(agents)*int64(s.jobs)) // verdict says how far it came
			stop(nil)
		})
	}
	closeView := env.watchFleet(f)
	begun := time.Now()
	err = f.Run(runCtx)
	took := time.Since(begun)
	stop(nil)
	side.Wait()
	closeView()
	if err == nil && tests.failure() != nil {
		err = tests.failure()
	}
	if err != nil {
		return err
	}
	r := &simulateReport{
		Server: s.server, Seconds: float64(took.Milliseconds()) / 1000, Stats: f.Stats(),
		Launched: tests.total(), Interrupted: ctx.Err() != nil,
	}
	if s.dir != "" {
		r.Dir = cfg.Dir
	}
	var checkErr error
	if s.check && !r.Interrupted && r.Ended() > 0 {
		checkErr = r.holdAgainstServer(ctx, f)
	}
	if s.json {
		err = env.printJSON(r)
	} else {
		err = r.write(env.stdout)
	}
	return errors.Join(err, checkErr, r.verdict(s))
}

// holdAgainstServer fills in r.Check.
func (r *simulateReport) holdAgainstServer(ctx context.Context, f *fleet.Fleet) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	c, err := f.Check(ctx)
	if err != nil {
		return fmt.Errorf("logs not held against the server's: %w", err)
	}
	r.Check = &c
	return nil
}

// verdict returns an error if the fleet did not do what it was to.
func (r *simulateReport) verdict(s simulation) error {
	switch {
	case r.Interrupted:
		return nil
	case r.Check != nil && !r.Check.OK():
		return fmt.Errorf("the server's logs differ: %d lines are lost, %d are extra, %d jobs differ", r.Check.Lost, r.Check.Extra, r.Check.Differ)
	case s.jobs > 0 && r.Ended() < int64(r.Agents)*int64(s.jobs):
		return fmt.Errorf("%d of %d tests have not ended", int64(r.Agents)*int64(s.jobs)-r.Ended(), int64(r.Agents)*int64(s.jobs))
	case r.Registered == 0 && r.LastError != "":
		return fmt.Errorf("no agent could register: %s", r.LastError)
	}
	return nil
}

// launcher launches quick tests on agents as they register.
type launcher struct {
	client *kittapi.Client
	s      simulation
	give   func(error) // up

	mu       sync.Mutex
	launched map[string]int // by agent
	refused  error
}

// launch launches the tests of one agent. A server that refuses them ends the
// simulation; of one that cannot be reached it is asked again.
func (l *launcher) launch(ctx context.Context, name, agentID string) error {
	for l.count(name) < l.s.jobs {
		_, err := l.client.Launch(ctx, kittapi.Launch{AgentID: agentID, Model: l.s.model, Engine: l.s.engine, Suite: l.s.suite, Force: true})
		_, refused := errors.AsType[*reporter.RejectedError](err)
		if refused || errors.Is(err, kittapi.ErrUnauthorized) {
			l.mu.Lock()
			l.refused = fmt.Errorf("the server launches no tests for --jobs: %w", err)
			l.mu.Unlock()
			l.give(nil)
			return nil
		}
		if err != nil {
			return err
		}
		l.mu.Lock()
		l.launched[name]++
		l.mu.Unlock()
	}
	return nil
}

func (l *launcher) count(name string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.launched[name]
}

func (l *launcher) total() (n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, each := range l.launched {
		n += int64(each)
	}
	return n
}

// failure returns why the server launches no tests, nil if it does.
func (l *launcher) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refused
}
