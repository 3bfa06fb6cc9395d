package docker_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/docker"
	"github.com/kirizan/kitt-agent/runner/docker/dockertest"
	"github.com/kirizan/kitt-agent/runner/runnertest"
	"github.com/kirizan/kitt-agent/runner/supervisor/program"
)

// between puts a proxy before the engine, which calls do in place of the first call of
// the API that ends in path, and returns a runner that uses it. What do gets passes the
// call on. The caller gets no answer to it.
func between(t *testing.T, p *dockertest.Private, path string, do func(pass func())) *docker.Runner {
	t.Helper()
	dir, err := os.MkdirTemp("", "kitt-proxy")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	socket := strings.TrimPrefix(p.Host, "unix://")
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite:   func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", "engine" },
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) {
			panic(http.ErrAbortHandler) // as an engine that is away
		},
	}
	var met atomic.Bool
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, path) || met.Swap(true) {
			proxy.ServeHTTP(w, r)
			return
		}
		do(func() {
			out := r.Clone(context.WithoutCancel(r.Context()))
			out.URL.Scheme, out.URL.Host, out.RequestURI = "http", "engine", ""
			if reply, err := transport.RoundTrip(out); err == nil {
				reply.Body.Close()
			}
		})
		panic(http.ErrAbortHandler)
	})}
	listener, err := net.Listen("unix", filepath.Join(dir, "sock"))
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		require.NoError(t, server.Close())
		require.ErrorIs(t, <-served, http.ErrServerClosed)
	})
	r, err := docker.New(docker.Config{
		Host: "unix://" + listener.Addr().String(), Timeout: 5 * time.Second, Supervisor: program.Source{Path: superviseProgram},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

// TestTheEngineIsAwayBeforeTheStart begins nothing, gives the job to no other runner,
// and runs it once the engine is back.
func TestTheEngineIsAwayBeforeTheStart(t *testing.T) {
	t.Parallel()
	p, r := privateEngine(t)
	local := &runnertest.Fake{}
	auto := runner.NewFallback(r, local)
	job := privateJob(t, "fake:lines=5")
	require.NoError(t, p.Kill())
	var out runnertest.Recorder
	require.ErrorIs(t, auto.CheckStart(t.Context()), runner.ErrNotReady)
	_, err := auto.Run(t.Context(), job, &out)
	require.ErrorIs(t, err, runner.ErrNotReady)
	require.Empty(t, local.Jobs())

	require.NoError(t, p.Start(t.Context()))
	require.NoError(t, auto.CheckStart(t.Context()))
	_, err = auto.Run(within(t, time.Minute), job, &out)
	require.NoError(t, err)
	require.Equal(t, lines(0, 5), out.Text())
	require.Empty(t, local.Jobs())
}

// TestTheEngineGoesAwayAtTheStart kills the engine, or the containerd behind it, just
// when it is asked for the container or its start, before or after it did that, and
// starts it again. The benchmark runs once, or it is said that the engine ended it.
func TestTheEngineGoesAwayAtTheStart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, path string
		passed     bool // whether the engine did what it was asked for
		containerd bool // whether containerd is killed too
		ends       bool // whether the engine's return ends the benchmark
		options    []string
	}{
		{name: "before the creation", path: "/containers/create"},
		{name: "after the creation", path: "/containers/create", passed: true},
		{name: "before the start", path: "/start"},
		{name: "before the start with containerd", path: "/start", containerd: true},
		{name: "after the start", path: "/start", passed: true, ends: true},
		{name: "after the start with live-restore", path: "/start", passed: true, options: []string{"--live-restore"}},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			p, _ := privateEngine(t, c.options...)
			job := privateJob(t, "fake:lines=100,delay=30ms")
			var back sync.WaitGroup
			t.Cleanup(back.Wait)
			claim := filepath.Join(job.Dir, "run", "started.json")
			r := between(t, p, c.path, func(pass func()) {
				if c.passed {
					pass()
				}
				if c.passed && c.path == "/start" {
					require.Eventually(t, func() bool { _, err := os.Stat(claim); return err == nil }, time.Minute, time.Millisecond)
				}
				require.NoError(t, p.Kill())
				if c.containerd {
					require.NoError(t, p.KillContainerd())
				}
				back.Go(func() {
					<-time.After(2 * time.Second)
					require.NoError(t, p.Start(context.Background()))
				})
			})
			var out runnertest.Recorder
			_, err := r.Run(within(t, time.Minute), job, &out)
			require.Contains(t, out.Messages(), "waiting for the Docker engine")
			if c.ends {
				var exit *runner.ExitError
				require.ErrorAs(t, err, &exit)
				require.Contains(t, exit.Detail, "Docker engine")
				return
			}
			require.NoError(t, err)
			require.Equal(t, lines(0, 100), out.Text())
		})
	}
}

// TestContainerdIsAwayAtTheStart has an engine that answers and can start nothing.
func TestContainerdIsAwayAtTheStart(t *testing.T) {
	t.Parallel()
	p, r := privateEngine(t)
	require.NoError(t, p.StopContainerd())
	var out runnertest.Recorder
	back := make(chan struct{})
	go func() {
		defer close(back)
		require.Eventually(t, func() bool { return strings.Contains(out.Messages(), "waiting for the Docker engine") }, time.Minute, time.Millisecond)
		require.NoError(t, p.StartContainerd())
	}()
	_, err := r.Run(within(t, time.Minute), privateJob(t, "fake:lines=5"), &out)
	<-back
	require.NoError(t, err)
	require.Equal(t, lines(0, 5), out.Text())
}

// TestAnImageThatCantBeLookedAt has an engine that fails to say whether it has the
// image. Only that there is none lets another runner have the job.
func TestAnImageThatCantBeLookedAt(t *testing.T) {
	t.Parallel()
	for _, status := range []int{500, 503, 401, 403} {
		s, r := newStub(t, nil)
		s.answers["GET /images/kitt:latest/json"] = reply(status, `{"message":"something is wrong"}`)
		local := &runnertest.Fake{}
		_, err := runner.NewFallback(r, local).Run(t.Context(), stubJob(t), &runnertest.Recorder{})
		require.ErrorIs(t, err, runner.ErrNotReady)
		require.ErrorContains(t, err, "something is wrong")
		require.Empty(t, local.Jobs())
	}
	s, r := newStub(t, nil)
	s.answers["GET /images/kitt:latest/json"] = reply(404, `{"message":"No such image: kitt:latest"}`)
	local := &runnertest.Fake{}
	_, err := runner.NewFallback(r, local).Run(t.Context(), stubJob(t), &runnertest.Recorder{})
	require.NoError(t, err)
	require.Len(t, local.Jobs(), 1)
}
