package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/systemd"
)

// serviceUnit is the name of the agent's unit, which the Python agent's has too.
const serviceUnit = "kitt-agent.service"

const (
	jobPoll  = 2 * time.Second
	jobWords = 30 * time.Second // between two words about what is waited for
)

// newServiceCommand returns `kitt-agent service`.
func newServiceCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "service",
		Short: "Have systemd run the agent",
		Long: `Have systemd run the agent: from boot on, and restart it when it fails.

Benchmarks outlive a stop and a restart of the service. What needs root and isn't
root goes through sudo. With --user it is a service of your own, which needs none.`,
		Example: "  kitt-agent service install\n  kitt-agent service status\n  kitt-agent service logs --follow\n  kitt-agent service uninstall",
	}
	return group(cmd, newServiceInstallCommand(env), newServiceUninstallCommand(env), newServiceStatusCommand(env), newServiceLogsCommand(env))
}

// unit returns the agent's unit.
func (env *environment) unit(ofUser bool) systemd.Unit {
	terminal, _ := env.stdin.(*os.File)
	return systemd.Unit{Name: serviceUnit, User: ofUser, Terminal: terminal}
}

// explainSystemd adds to an error of systemd's what to do about it.
func explainSystemd(unit systemd.Unit, err error) error {
	if _, said := errors.AsType[*codedError](err); said || err == nil {
		return err
	}
	switch {
	case errors.Is(err, systemd.ErrNoSystemd):
		return &codedError{exitFailure, err.Error() + ", so there is nothing that could run a service\n" +
			"have what starts programs here run: kitt-agent start   (it stays in the foreground and ends on SIGTERM;\n" +
			"a container takes it as its command)"}
	case unit.User && strings.Contains(err.Error(), "connect to bus"):
		return fmt.Errorf("%w\nyour own systemd does not answer: log in as yourself rather than with su or sudo, or first: sudo loginctl enable-linger %s",
			err, userName())
	case strings.Contains(err.Error(), "sudo"):
		return fmt.Errorf("%w\nrun it as root or where sudo can ask for a password, or take a service of your own with --user", err)
	}
	return err
}

func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "$USER"
}

// serviceConfig returns the settings that the service of an account has: those
// of its file, and nothing of the variables around this command.
func (env *environment) serviceConfig(path, home, userHome string) (*config.Config, []string, error) {
	getenv := func(name string) string {
		switch name {
		case "KITT_HOME":
			return home
		case "HOME":
			return userHome
		}
		return ""
	}
	return config.Sources{Path: path, Getenv: getenv}.Resolve()
}

// installedConfig returns the settings of the service that is installed, as its
// unit file names them.
func (env *environment) installedConfig(unit systemd.Unit) (*config.Config, error) {
	text, err := unit.ReadFile()
	if err != nil {
		return nil, err
	}
	service := systemd.Read(text)
	if service.Home == "" {
		return env.config(nil)
	}
	path := ""
	for i, arg := range service.Args[:max(len(service.Args)-1, 0)] {
		if arg == "--config" {
			path = service.Args[i+1]
		}
	}
	cfg, _, err := env.serviceConfig(path, service.Home, filepath.Dir(service.Home))
	return cfg, err
}

// busyJobs returns the jobs of the agent that have their turn, also where no
// agent runs: the benchmark goes on without it.
func busyJobs(ctx context.Context, cfg *config.Config) ([]string, error) {
	stored, diskErr := agent.StoredJobs(cfg.Home)
	var busy []string
	for _, j := range stored {
		if j.State.Active() {
			busy = append(busy, j.CommandID)
		}
	}
	if len(busy) > 0 {
		return busy, nil
	}
	// The files of another user can't be read, and the Python agent has none.
	c, err := newAgentClient(cfg)
	if err != nil {
		return nil, err
	}
	status, _, err := c.Status(ctx)
	switch {
	case err != nil:
		return nil, diskErr
	case status.Running:
		return []string{"of the agent that answers at " + c.URL()}, nil
	}
	return nil, nil
}

// jobRule is what to do where jobs are in the way.
type jobRule struct{ wait, force bool }

func (r *jobRule) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&r.wait, "wait", false, "wait for running jobs to end where they are in the way")
	cmd.Flags().BoolVar(&r.force, "force", false, "go on although jobs run, and over a unit file that is not as kitt-agent wrote it")
}

// untilIdle returns once no job is in the way of what is to be done: at once if
// none runs or the rule is to go on all the same.
func (env *environment) untilIdle(ctx context.Context, cfg *config.Config, rule jobRule, what, why string) error {
	poll := time.NewTicker(jobPoll)
	defer poll.Stop()
	var said time.Time
	for {
		jobs, err := busyJobs(ctx, cfg)
		if err != nil && !rule.force {
			return fmt.Errorf("whether jobs run can't be told: %w", err)
		}
		if len(jobs) == 0 {
			return nil
		}
		names := strings.Join(jobs, ", ")
		switch {
		case rule.force:
			env.say("kitt-agent: warning: job runs: %s; %s", printable(names), why)
			return nil
		case !rule.wait:
			return &codedError{exitFailure, fmt.Sprintf("job runs: %s; %s, and %s\nwait for its end with --wait, or go on all the same with --force",
				printable(names), what, why)}
		case time.Since(said) > jobWords:
			said = time.Now()
			env.say("waiting for the end of job %s, since %s", printable(names), why)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-poll.C:
		}
	}
}
