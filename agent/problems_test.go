package agent_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/agent/health"
	"github.com/kirizan/kitt-agent/hwdetect/hwdetecttest"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/storage"
	"github.com/kirizan/kitt-agent/storage/storagetest"
)

// filling is a storage whose disk fills.
type filling struct {
	*storagetest.Fake
	free atomic.Int64
}

func (f *filling) Usage(context.Context) (storage.Usage, error) {
	return storage.Usage{FreeBytes: f.free.Load(), UsedBytes: 1}, nil
}

// starting is a runner that says whether it can start a job.
type starting struct {
	*play
	start, check atomic.Pointer[error]
	asked        atomic.Int64
}

func (s *starting) CheckStart(context.Context) error {
	s.asked.Add(1)
	return *s.start.Load()
}

func (s *starting) Check() error { return *s.check.Load() }

// reasons returns the reasons of the agent's problems.
func reasons(a *agent.Agent) []health.Reason {
	all := []health.Reason{}
	for _, p := range a.Status().Problems {
		all = append(all, p.Reason)
	}
	return all
}

// TestProblems follows an agent whose machine has one trouble after the other. Each is
// gone when its cause is.
func TestProblems(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		run := &starting{play: &play{run: hangs}}
		var none error
		run.start.Store(&none)
		run.check.Store(&none)
		gpus := hwdetecttest.NewFake(profile(t, "h100-8"))
		var certificate atomic.Bool
		store := &filling{Fake: &storagetest.Fake{}}
		store.free.Store(100 << 30)
		a, stop := start(t, agent.Config{
			Server: &agenttest.Server{}, Runner: run, Detector: gpus, Storage: store, DiskLow: 10 << 20,
			Problems: func(context.Context) []health.Problem {
				if !certificate.Load() {
					return nil
				}
				return []health.Problem{health.New(health.CertificateExpiring, "the agent's certificate")}
			},
		})
		defer stop()
		next := func(want ...health.Reason) {
			t.Helper()
			time.Sleep(2 * time.Minute)
			synctest.Wait()
			require.Equal(t, append([]health.Reason{}, want...), reasons(a))
		}
		next()

		gpus.SetFault("GPU 5 fell off the bus")
		next(health.GPU)
		require.Equal(t, "a GPU cannot be used: GPU 5 fell off the bus", a.Status().Degraded)
		code, status, _ := probe(t, a, "/readyz", "127.0.0.1:5")
		require.Equal(t, []any{503, "gpu"}, []any{code, status})
		gpus.SetFault("")
		next()

		away := error(&runner.Error{Class: runner.ClassEngine, Text: "Docker does not answer", Err: runner.ErrNotReady})
		run.start.Store(&away)
		next(health.Engine)
		missing := errors.Join(runner.ErrUnavailable, errors.New("no image"))
		run.start.Store(&missing)
		next(health.Runner)
		run.start.Store(&none)
		known := errors.New("kitt-supervise is missing")
		run.check.Store(&known)
		next(health.Runner)
		run.check.Store(&none)

		certificate.Store(true)
		next(health.CertificateExpiring)
		code, status, _ = probe(t, a, "/readyz", "127.0.0.1:5")
		require.Equal(t, []any{200, "degraded"}, []any{code, status}, "it can do its work")
		certificate.Store(false)

		store.free.Store(9 << 20)
		next(health.DiskLow)
		require.Contains(t, a.Status().Degraded, "9 MiB are free where models are kept")
		gpus.SetFault("GPU 1 is sick")
		next(health.GPU, health.DiskLow)
		for _, p := range a.Status().Problems {
			require.NotEmpty(t, p.Remedy)
		}
	})
}

// A benchmark that runs needs nothing of the engine, which is not asked meanwhile.
func TestRunnerIsNotAskedWhileABenchmarkRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		run := &starting{play: &play{run: hangs}}
		var none error
		run.start.Store(&none)
		run.check.Store(&none)
		srv := &agenttest.Server{}
		a, stop := start(t, agent.Config{Server: srv, Runner: run})
		defer stop()
		id := srv.Launch("m")
		require.NoError(t, srv.Wait(within(t, 5*time.Minute), id, "running"))
		synctest.Wait() // the server hears it while the job is still prepared
		away := error(&runner.Error{Class: runner.ClassEngine, Text: "Docker does not answer", Err: runner.ErrNotReady})
		run.start.Store(&away)
		before := run.asked.Load()
		time.Sleep(5 * time.Minute)
		require.Equal(t, before, run.asked.Load())
		require.Empty(t, a.Status().Problems)
	})
}

// Names, paths and errors are for callers that the agent trusts.
func TestReadyTellsStrangersNoDetails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, stop := start(t, agent.Config{Server: &agenttest.Server{}, Runner: &play{run: hangs}, Token: apiToken,
			Problems: func(context.Context) []health.Problem {
				return []health.Problem{health.New(health.CertificateExpired, "/secret/path")}
			}})
		defer stop()
		time.Sleep(time.Minute)
		for from, sees := range map[string]bool{"127.0.0.1:5": true, "10.0.0.9:5": false} {
			r := httptest.NewRequestWithContext(t.Context(), "GET", "/readyz", nil)
			r.Host, r.RemoteAddr = "10.0.0.7:8090", from
			w := httptest.NewRecorder()
			a.Handler().ServeHTTP(w, r)
			require.Equal(t, 503, w.Code)
			require.Equal(t, sees, strings.Contains(w.Body.String(), "/secret/path"), w.Body)
			require.Contains(t, w.Body.String(), "make a new one")
		}
	})
}
