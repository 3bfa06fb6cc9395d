package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"

	"github.com/spf13/cobra"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/notify"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
)

// A notifier tells a web hook what happens to an agent. A nil one does nothing.
type notifier struct{ *notify.Notifier }

// openNotifier returns what tells the web hook that cfg names, and has the status say
// when that takes nothing.
func (env *environment) openNotifier(cfg *config.Config, to *agent.Config, log *slog.Logger) (*notifier, error) {
	if cfg.Notify.URL.IsZero() {
		return nil, nil
	}
	settings, err := env.notifyConfig(cfg)
	if err != nil {
		return nil, err
	}
	settings.Secrets, settings.Logger = to.Secrets, log
	n, err := notify.New(settings)
	if err != nil {
		return nil, fmt.Errorf("%w; see notify in agent.yaml", err)
	}
	warnings := to.Warnings
	to.Warnings = func(ctx context.Context) []string { return slices.Concat(warnings(ctx), n.Warnings()) }
	return &notifier{n}, nil
}

// newNotifyCommand returns `kitt-agent notify`.
func newNotifyCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "notify",
		Short: "Send the web hook in agent.yaml a test",
		Long: `Send the web hook of notify.url a notification that says that it is a test, and show
whether it was taken. The running agent is not asked.`,
		Example: "  kitt-agent notify\n  kitt-agent notify --config /etc/kitt/agent.yaml",
		Args:    exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := env.config(nil)
			if err != nil {
				return err
			}
			if cfg.Notify.URL.IsZero() {
				return &codedError{exitFailure, "there is no web hook\ntry: set notify.url in " + cfg.Path}
			}
			settings, err := env.notifyConfig(cfg)
			if err != nil {
				return err
			}
			settings.Secrets = env.secretsOf(cfg)
			n, err := notify.New(settings)
			if err != nil {
				return err
			}
			if err := n.Test(cmd.Context(), cfg.Name); err != nil {
				return fmt.Errorf("the web hook did not take the test: %w; check notify in %s", err, cfg.Path)
			}
			_, err = fmt.Fprintln(env.stdout, "The web hook took the test.")
			return err
		},
	}
}

// notifyConfig returns what agent.yaml says of notifications.
func (env *environment) notifyConfig(cfg *config.Config) (notify.Config, error) {
	url, err := cfg.Notify.URL.Resolve(env.getenv)
	if err != nil {
		return notify.Config{}, fmt.Errorf("notify.url: %w", err)
	}
	key, err := cfg.Notify.Key.Resolve(env.getenv)
	if err != nil {
		return notify.Config{}, fmt.Errorf("notify.key: %w", err)
	}
	settings := notify.Config{
		URL: url, Key: key, Format: notify.Format(cfg.Notify.Format), PerHour: cfg.Notify.PerHour, Dir: cfg.Home,
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true},
	}
	for _, name := range cfg.Notify.Events {
		settings.Events = append(settings.Events, notify.Event(name))
	}
	return settings, nil
}

// start tells the web hook about a until ctx is done. Its goroutine is added to group.
func (n *notifier) start(ctx context.Context, group *sync.WaitGroup, a *agent.Agent) {
	if n == nil {
		return
	}
	events := a.Events(ctx)
	group.Go(func() { n.Run(ctx, a, events) })
}
