package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/kirizan/kitt-agent/agent/client"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/pidfile"
)

const (
	stopPoll    = 50 * time.Millisecond
	stopTimeout = time.Minute
	stopWords   = 5 * time.Second // between two words about how far it is
)

// stopReport is what `stop --json` prints.
type stopReport struct {
	Stopped bool    `json:"stopped"` // false if there was nothing to stop
	PID     int     `json:"pid,omitempty"`
	TookS   float64 `json:"took_s"`
}

// newStopCommand returns `kitt-agent stop`.
func newStopCommand(env *environment) *cobra.Command {
	var cancel, drain, asJSON bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "stop",
		Short: "Stop the agent on this machine",
		Long: `Stop the agent on this machine, and return once its process is gone.

A benchmark that runs goes on, and the next start of the agent takes it up again.
With --cancel it is ended first; with --drain the agent takes no more jobs and
stops once the running one has ended, which may take hours.`,
		Example: "  kitt-agent stop\n  kitt-agent stop --cancel\n  kitt-agent stop --drain --timeout 2h",
		Args:    exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := env.config(nil)
			if err != nil {
				return err
			}
			var mode client.StopMode
			switch {
			case cancel && drain:
				return usageError("kitt-agent stop --drain", "--cancel and --drain exclude each other")
			case cancel:
				mode = client.StopCancel
			case drain:
				mode = client.StopDrain
			}
			if drain && !cmd.Flags().Changed("timeout") {
				timeout = 0
			}
			began := time.Now()
			owner, err := env.stop(cmd.Context(), cfg, mode, timeout)
			if err != nil {
				return err
			}
			report := stopReport{Stopped: owner.PID != 0, PID: owner.PID, TookS: time.Since(began).Seconds()}
			switch {
			case asJSON:
				return env.printJSON(report)
			case report.Stopped:
				_, err = fmt.Fprintf(env.stdout, "kitt-agent (process %d) has stopped\n", owner.PID)
			default:
				_, err = fmt.Fprintln(env.stdout, "kitt-agent is not running")
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&cancel, "cancel", false, "end the running benchmark first")
	cmd.Flags().BoolVar(&drain, "drain", false, "wait for the running benchmark to end")
	cmd.Flags().DurationVar(&timeout, "timeout", stopTimeout, "how long to wait; 0 for as long as it takes, the default with --drain")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// stop stops the agent, in the given way, and waits until it is gone. It returns
// the process that was stopped, none if none was there.
func (env *environment) stop(ctx context.Context, cfg *config.Config, mode client.StopMode, timeout time.Duration) (pidfile.Owner, error) {
	owner, running, err := pidfile.Find(cfg.PIDFile())
	if err != nil || !running {
		return pidfile.Owner{}, err
	}
	if owner.PID <= 1 {
		return owner, fmt.Errorf("an agent is running, but %s does not say which process it is", cfg.PIDFile())
	}
	if mode == "" {
		err = terminate(owner.PID)
	} else {
		err = askToStop(ctx, cfg, mode)
	}
	if err != nil {
		return owner, err
	}
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	err = env.waitGone(ctx, cfg, owner)
	if errors.Is(err, context.DeadlineExceeded) {
		return owner, fmt.Errorf("process %d is still there after %s; see %s, and wait longer with --timeout, or end it with: kill -9 %d",
			owner.PID, span(timeout), cfg.LogFile(), owner.PID)
	}
	return owner, err
}

// terminate sends SIGTERM. That the process is gone already is no error.
func terminate(pid int) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	err = p.Signal(syscall.SIGTERM)
	switch {
	case errors.Is(err, os.ErrProcessDone):
		return nil
	case errors.Is(err, syscall.EPERM):
		return fmt.Errorf("process %d belongs to another user; stop it as that user, or as root", pid)
	}
	return err
}

// askToStop asks the agent to stop in a way that a signal can't say. If it can't
// be asked, nothing is done: SIGTERM would leave the benchmark running, which is
// not what was wanted.
func askToStop(ctx context.Context, cfg *config.Config, mode client.StopMode) error {
	c, err := newAgentClient(cfg)
	if err != nil {
		return err
	}
	if _, err := c.Stop(ctx, mode); err != nil {
		return &codedError{exitFailure, fmt.Sprintf("the agent could not be asked to %s: %s; kitt-agent stop stops it and leaves the benchmark running", mode, err)}
	}
	return nil
}

// waitGone returns once the process no longer holds its file.
func (env *environment) waitGone(ctx context.Context, cfg *config.Config, owner pidfile.Owner) error {
	poll := time.NewTicker(stopPoll)
	defer poll.Stop()
	word := time.NewTicker(stopWords)
	defer word.Stop()
	began := time.Now()
	for {
		now, running, err := pidfile.Find(cfg.PIDFile())
		if err == nil && (!running || now.PID != owner.PID && now.PID != 0) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-poll.C:
		case <-word.C:
			env.say("waiting for process %d, for %s now", owner.PID, span(time.Since(began)))
		}
	}
}
