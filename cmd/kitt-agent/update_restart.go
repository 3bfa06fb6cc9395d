package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/kirizan/kitt-agent/agent/client"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/launch"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/pidfile"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/selfupdate"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/systemd"
)

// Times of a restart.
const (
	healthPoll = 100 * time.Millisecond
	settling   = 3 * time.Second // for which a new agent stays healthy before it is believed
	undoStop   = 20 * time.Second
)

// A runningAgent is the agent that `update --restart` restarts.
type runningAgent struct {
	process *launch.Process
	path    string        // of its program
	unit    *systemd.Unit // nil where systemd does not run it
	version string        // empty if it doesn't say
	child   *launch.Child // what took its place, without systemd
}

func isRunning(cfg *config.Config) bool {
	_, running, err := pidfile.Find(cfg.PIDFile())
	return err == nil && running
}

// findRunning returns the running agent, nil if there is none, and an error if
// it can't be restarted from here.
func (env *environment) findRunning(ctx context.Context, cfg *config.Config, install *selfupdate.Install) (*runningAgent, error) {
	owner, running, err := pidfile.Find(cfg.PIDFile())
	if err != nil || !running {
		return nil, err
	}
	if owner.PID <= 1 {
		return nil, errors.New("the running agent can't be restarted: it is the first process of a container, which gets a new version with its image")
	}
	process, err := launch.Inspect(owner.PID)
	if err != nil {
		return nil, fmt.Errorf("%w; run the command as that user, or update without --restart", err)
	}
	if process.UID != os.Geteuid() && os.Geteuid() == 0 && process.Unit == "" {
		return nil, fmt.Errorf("the running agent (process %d) belongs to user %d; run the command as that user, or update without --restart and restart the agent", owner.PID, process.UID)
	}
	if !runs(process.Exe, install) {
		return nil, fmt.Errorf("the running agent (process %d) is another program, %s; update with that one", owner.PID, process.Exe)
	}
	agent := &runningAgent{process: process, path: install.Path()}
	if process.Unit != "" {
		unit := systemd.Unit{Name: process.Unit, User: process.UserUnit, Terminal: terminalOf(env.stdin)}
		// A group named for a service holds all that the service starts: a
		// terminal, for one, with the agent in it.
		if state, err := unit.State(ctx); err == nil && state.PID == owner.PID {
			agent.unit = &unit
		}
	}
	if c, err := newAgentClient(cfg); err == nil {
		if status, _, err := c.Status(ctx); err == nil {
			agent.version = status.Version
		}
	}
	return agent, nil
}

func terminalOf(in any) *os.File {
	f, _ := in.(*os.File)
	return f
}

// runs reports whether a process's program is the installed one, or was before
// an update.
func runs(exe string, install *selfupdate.Install) bool {
	switch exe {
	case install.Path(), install.Path() + " (deleted)", install.Previous(), install.Previous() + " (deleted)":
		return true
	}
	return false
}

// restart restarts the agent and returns once it is healthy and of the wanted
// version. If it isn't within timeout, undo puts the program from before back,
// and the agent is restarted with that.
func (env *environment) restart(ctx context.Context, cfg *config.Config, agent *runningAgent, version string, timeout time.Duration, undo func() error) error {
	// Between the old agent's end and the new one's start there is no agent, so
	// the end of a terminal must not end this.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	held := agent.process.Hold()
	defer held.Close()

	env.say("Restarting the agent (process %d)", agent.process.PID)
	err := env.replace(ctx, cfg, agent, version, timeout)
	if err == nil {
		return nil
	}
	// Whoever interrupts the command gets the old agent back.
	ctx = context.WithoutCancel(ctx)
	env.say("The new agent is not healthy: %s", err)
	env.say("Going back to the version from before")
	if undoErr := undo(); undoErr != nil {
		return fmt.Errorf("the update failed (%w), and so did going back: %w", err, undoErr)
	}
	if backErr := env.replace(ctx, cfg, agent, "", timeout); backErr != nil {
		return &codedError{exitFailure, fmt.Sprintf("the update failed: %s; the program from before is back, but its agent is not healthy: %s; see %s, and start it with: kitt-agent start", err, backErr, cfg.LogFile())}
	}
	// Not what ErrNotRunning stands for, even where the new one never ran.
	return &codedError{exitFailure, fmt.Sprintf("the update was undone, and the agent runs the version from before: %s; see %s", err, cfg.LogFile())}
}

// replace ends the agent that runs, starts the installed program in its place and
// waits until that is healthy. An empty version stands for any.
func (env *environment) replace(ctx context.Context, cfg *config.Config, agent *runningAgent, version string, timeout time.Duration) error {
	before, _, err := pidfile.Find(cfg.PIDFile())
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if agent.unit != nil {
		if err := agent.unit.Restart(limited); err != nil {
			return err
		}
	} else {
		if err := env.stopForRestart(ctx, cfg, agent); err != nil {
			return err
		}
		if agent.child, err = agent.process.Start(agent.path); err != nil {
			return err
		}
	}
	return waitHealthy(limited, cfg, agent, before.PID, version)
}

// stopForRestart ends the agent, and one that doesn't heed that but was started
// by us, the hard way.
func (env *environment) stopForRestart(ctx context.Context, cfg *config.Config, agent *runningAgent) error {
	if agent.child == nil {
		_, err := env.stop(ctx, cfg, "", stopTimeout)
		return err
	}
	if agent.child.Ended() == nil {
		if _, err := env.stop(ctx, cfg, "", undoStop); err != nil {
			env.say("The new agent does not stop: %s", err)
		}
	}
	return agent.child.Kill()
}

// waitHealthy returns once an agent of that version, in another process than
// before, is healthy and stays so.
func waitHealthy(ctx context.Context, cfg *config.Config, agent *runningAgent, before int, version string) error {
	tick := time.NewTicker(healthPoll)
	defer tick.Stop()
	var since time.Time // when it became healthy
	for {
		if agent.child != nil {
			if err := agent.child.Ended(); err != nil {
				return err
			}
		}
		err := checkNewAgent(ctx, cfg, before, version)
		switch {
		case err != nil:
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		case time.Since(since) >= settling:
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return errors.New("interrupted")
			}
			if err == nil {
				err = errors.New("it was so too late")
			}
			return fmt.Errorf("it was not healthy in time: %w", err)
		}
	}
}

// checkNewAgent returns nil if an agent of that version, in another process than
// before, is healthy now.
func checkNewAgent(ctx context.Context, cfg *config.Config, before int, version string) error {
	owner, running, err := pidfile.Find(cfg.PIDFile())
	switch {
	case err != nil:
		return err
	case !running:
		return client.ErrNotRunning
	case owner.PID == before:
		return errors.New("the old agent still runs")
	}
	c, err := newAgentClient(cfg)
	if err != nil {
		return err
	}
	status, _, err := c.Status(ctx)
	if err != nil {
		return err
	}
	if version != "" && status.Version != version {
		return fmt.Errorf("the agent that answers is %s", status.Version)
	}
	return c.Healthy(ctx)
}
