package agent_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/internal/base/basetest"
	"github.com/kirizan/kitt-agent/runner"
	native "github.com/kirizan/kitt-agent/runner/engine"
)

// detecting is a manager of engines that only reports some.
type detecting func() []native.Status

func (d detecting) Detect(context.Context) ([]native.Status, error) { return d(), nil }

func (detecting) Install(context.Context, string, runner.Output) error { return errors.ErrUnsupported }

func (detecting) Start(context.Context, native.Launch, runner.Position, runner.Output) error {
	return errors.ErrUnsupported
}

func (detecting) Stop(context.Context, string, runner.Output) error { return errors.ErrUnsupported }

func (detecting) Watch(context.Context, string) error { return nil }

func TestNewLooksAtNothing(t *testing.T) {
	t.Parallel()
	a, err := agent.New(agent.Config{
		Name: "gpu-01", Dir: t.TempDir(), Server: &agenttest.Server{}, Runner: &play{run: hangs},
		Engines: detecting(func() []native.Status {
			require.Fail(t, "New looks at the machine")
			return nil
		}),
	})
	require.NoError(t, err)
	status := a.Status()
	require.Zero(t, status.StartedAt)
	require.Zero(t, status.UptimeS)
	require.Equal(t, heartbeat.StatusIdle, status.State)
}

func TestStatusWhileRunBegins(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, stop := start(t, agent.Config{Server: &agenttest.Server{}, Runner: &play{run: hangs}})
		defer stop()
		require.Zero(t, a.Status().UptimeS)
		<-a.Ready()
		time.Sleep(time.Minute)
		require.InDelta(t, 60, a.Status().UptimeS, 0)
	})
}

func TestTheListenerIsClosedInAnyCase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, _ := serveAgent(t, agent.Config{Dir: dir})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	second, err := agent.New(agent.Config{Name: "gpu-02", Dir: dir, Server: &agenttest.Server{}, Runner: &play{run: hangs}, Listener: listener})
	require.NoError(t, err)
	require.ErrorIs(t, second.Run(t.Context()), agent.ErrInUse)
	require.ErrorIs(t, listener.Close(), net.ErrClosed)
	require.NoError(t, first.Alive())
}

func TestAListenerThatBreaksIsSaidAtOnce(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	log := &basetest.Buffer{}
	a, err := agent.New(agent.Config{
		Name: "gpu-01", Dir: t.TempDir(), Server: &agenttest.Server{}, Runner: &play{run: hangs},
		Listener: listener, Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "the API is not served any more") }, 10*time.Second, time.Millisecond)
	require.Empty(t, done, "jobs need no API")
	stop()
	require.ErrorIs(t, <-done, net.ErrClosed)
}

func TestARunnerThatIgnoresTheStopIsNamed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		letGo := make(chan struct{})
		log := &basetest.Buffer{}
		a, stop := start(t, agent.Config{
			Server: srv, StopGrace: time.Second, Logger: slog.New(slog.NewTextHandler(log, nil)),
			Runner: &play{run: func(context.Context, runner.Job, runner.Output) (runner.Result, error) {
				<-letGo
				return runner.Result{}, nil
			}},
		})
		id := srv.Launch("m")
		require.NoError(t, srv.Wait(within(t, time.Minute), id, "running"))
		synctest.Wait()
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			stop()
		}()
		time.Sleep(time.Minute)
		require.Contains(t, log.String(), `"job ignores the stop, waiting for it" job=`+a.Jobs()[0].CommandID)
		close(letGo)
		<-stopped
		require.Equal(t, agent.StateCompleted, a.Jobs()[0].State)
	})
}

func TestAUnixSocketIsOnThisMachine(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "api"))
	require.NoError(t, err)
	a, stop := start(t, agent.Config{Server: &agenttest.Server{}, Runner: &play{run: hangs}, Listener: listener})
	defer stop()
	<-a.Ready()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", listener.Addr().String())
		},
	}}
	resp, err := client.Get("http://agent/api/engines")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode, "no token is asked for")
}
