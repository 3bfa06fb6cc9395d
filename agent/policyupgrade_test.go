package agent_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/agent/policy"
	"github.com/kirizan/kitt-agent/storage"
)

// origins is a storage that finds each model where its path says.
type origins struct{ shelf }

func (o *origins) Acquire(_ context.Context, req storage.Request) (*storage.Lease, error) {
	switch {
	case strings.HasPrefix(req.Model, "/opt"):
		return storage.NewLease(req.Model, storage.OriginInPlace, nil), nil
	case strings.HasPrefix(req.Model, "/"):
		return storage.NewLease(req.Model, storage.OriginCopied, nil), nil
	}
	return storage.NewLease(req.Model, storage.OriginIdentifier, nil), nil
}

// The first start with a policy lists the jobs that it would have refused, once.
func TestUpgradeListsWhatThePolicyWouldRefuse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		srv := &agenttest.Server{}
		cfg := agent.Config{Dir: dir, Server: srv, Runner: &play{run: prints(1, 0)}, Storage: &origins{}}
		run := func(cfg agent.Config, models ...string) (a *agent.Agent, said string) {
			var log bytes.Buffer
			cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
			var ids []string
			for _, model := range models {
				ids = append(ids, srv.Launch(model))
			}
			a, stop := start(t, cfg)
			for _, id := range ids {
				require.NoError(t, srv.Wait(t.Context(), id, "completed"))
			}
			time.Sleep(time.Minute)
			stop()
			return a, log.String()
		}
		older := cfg
		older.Settings.Image = "evil/image:1"
		_, said := run(older, "/data/old")
		require.NotContains(t, said, "refuse", "nothing is limited")
		time.Sleep(29 * 24 * time.Hour)
		_, said = run(cfg, "/opt/m", "/etc/cron.d/m", "/data/m", "org/model")
		require.NotContains(t, said, "refuse")

		time.Sleep(36 * time.Hour)
		cfg.Policy = policy.Default(policy.Machine{Home: "/home/agent"})
		a, said := run(cfg)
		require.Equal(t, 2, strings.Count(said, "this job would be refused today"), said)
		require.Contains(t, said, "model_dirs: [/opt]")
		require.Contains(t, said, "storage_dirs: [/etc/cron.d]")
		require.Contains(t, strings.Join(a.Status().Warnings, "\n"), "The policy would refuse 2 of the jobs of the last 30 days")

		_, said = run(cfg)
		require.NotContains(t, said, "refused today", "it is said once")
	})
}
