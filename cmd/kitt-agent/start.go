package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/certs"
	"github.com/kirizan/kitt-agent/agent/systemd"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/logging"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/pidfile"
)

// newStartCommand returns `kitt-agent start`.
func newStartCommand(env *environment) *cobra.Command {
	keys := map[string]string{"server": "server_url", "name": "name", "port": "port", "runner": "runner"}
	var checked bool
	cmd := &cobra.Command{
		Use:   "start",
		Short: "Run the agent in the foreground",
		Long: `Run the agent in the foreground until it is interrupted or told to stop.

It registers with the KITT server, keeps trying while that is away, and runs the
jobs that it is given. When it stops, benchmarks that run in containers or through
the local kitt go on, and the next start takes them up again. Ctrl-C, SIGTERM and
the end of the terminal stop it; a second Ctrl-C or SIGTERM ends it at once.

Its log goes to standard error and, as JSON, to ~/.kitt/logs/agent.log.`,
		Example: "  kitt-agent start\n  kitt-agent start --config /etc/kitt/agent.yaml\n  kitt-agent start --preflight\n  kitt-agent start --runner process",
		Args:    exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := env.config(changed(cmd, keys))
			if err != nil {
				return err
			}
			if checked {
				if err := env.startChecked(cmd.Context(), cfg); err != nil {
					return err
				}
			}
			return env.start(cmd.Context(), cfg)
		},
	}
	flags := cmd.Flags()
	env.insecureFlag(cmd)
	flags.String("server", "", "`URL` of the KITT server, in place of the configured one")
	flags.String("name", "", "`name` of the agent at the server")
	flags.Int("port", 0, "`port` of the agent's own API")
	flags.BoolVar(&checked, "preflight", false, "check the machine first, and start only if it has what is required")
	flags.String("runner", "", "what runs benchmarks: auto, docker, process, simulated or slurm")
	return cmd
}

// start runs the agent that cfg describes until ctx is done.
func (env *environment) start(ctx context.Context, cfg *config.Config) (err error) {
	pid, err := pidfile.Acquire(cfg.PIDFile())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pid.Release()) }()
	ctx, release := whileAttached(ctx)
	defer release()

	log, logFile, logErr := logging.New(logging.Options{
		Level:  cfg.Log.Level,
		Format: cfg.Log.Format,
		Output: env.stderr,
		Color:  logging.Color(env.stderr, env.getenv),
		File:   cfg.LogFile(),

		Journal: logging.Journal(env.stderr, env.getenv),
	})
	if logErr != nil {
		log.Warn("log file not written", "err", logErr)
	}
	if logFile != nil {
		defer func() { err = errors.Join(err, logFile.Close()) }()
	}

	files := tlsFiles(cfg)
	if cfg.ServesTLS() {
		if err := certs.Recover(files); err != nil {
			return err
		}
	}
	if cfg.Insecure {
		log.Warn("the server's certificate is not verified", "why", "--insecure")
	}
	benchmarks := newStarter()
	defer benchmarks.close()
	if err := benchmarks.lowerPriority(); err != nil {
		log.Warn("the agent's priority is not lowered; it may slow benchmarks", "err", err)
	}
	agentConfig, parts, err := env.compose(cfg, log, benchmarks.start)
	if err != nil {
		return err
	}
	defer func() {
		if err := parts.Close(); err != nil {
			log.Warn("not closed cleanly", "err", err)
		}
	}()
	if cluster := clusterOf(agentConfig.Runner); cluster != nil && cfg.Origin("max_concurrent_jobs") == "default" {
		agentConfig.MaxConcurrentJobs = clusterSlots(ctx, cfg, cluster, log)
	}
	logWithheld(cfg, os.Environ(), log)
	trail := openTrail(cfg, &agentConfig, log)
	defer trail()
	if agentConfig.TLS, err = serverTLS(cfg, log); err != nil {
		return err
	}
	told, err := env.openNotifier(cfg, &agentConfig, log)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", cfg.ListenAddress())
	if err != nil {
		return fmt.Errorf("the agent's API: %w; choose another port with --port, or port: in agent.yaml", err)
	}
	agentConfig.Listener = listener
	log.Info("agent started", "version", thisBuild().Version, "name", cfg.Name, "server", cfg.ServerURL,
		"listening", listener.Addr().String(), "runner", cfg.Runner, "config", cfg.Path)
	exported, err := openMetrics(cfg, &agentConfig)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	a, err := agent.New(agentConfig)
	if err != nil {
		return errors.Join(err, listener.Close(), exported.Close())
	}
	var watch sync.WaitGroup
	watching, stopWatching := context.WithCancel(ctx)
	defer watch.Wait()
	defer stopWatching()
	watch.Go(func() { certs.Watch(watching, files, log) })
	watch.Go(func() { releaseMemory(watching, a) })
	exported.start(watching, &watch, a, log)
	told.start(watching, &watch, a)
	return runNotifying(ctx, cfg, a, log)
}

// whileAttached returns a context that also ends with the terminal that the agent
// was started from, unless nohup is to keep it from that, and what releases it.
// Until then the agent outlives the reader of its log: tee goes at the Ctrl-C that
// stops the agent, whose next line would otherwise kill it by SIGPIPE.
func whileAttached(ctx context.Context) (context.Context, func()) {
	// Ignoring the signal would do too, but benchmarks would inherit that.
	unread := make(chan os.Signal, 1)
	signal.Notify(unread, syscall.SIGPIPE)
	stop := func() {}
	if !signal.Ignored(syscall.SIGHUP) {
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGHUP)
	}
	return ctx, func() {
		stop()
		signal.Stop(unread)
	}
}

// stopMargin is what an agent takes to stop beyond drain_timeout.
const stopMargin = time.Minute

// runNotifying runs a, and tells the systemd that started it, if one did, its state.
func runNotifying(ctx context.Context, cfg *config.Config, a *agent.Agent, log *slog.Logger) error {
	notifier := systemd.NewNotifier(a, cfg.DrainTimeout+stopMargin, log)
	notifying, stop := context.WithCancel(context.WithoutCancel(ctx))
	var ended sync.WaitGroup
	ended.Go(func() { notifier.Run(notifying, ctx) })
	defer ended.Wait()
	defer stop()
	return a.Run(ctx)
}
