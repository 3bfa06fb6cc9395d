package docker_test

import (
	"context"
	"errors"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/docker"
	"github.com/kirizan/kitt-agent/runner/docker/dockertest"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// pidOf returns the PID of the job's supervisor on this machine.
func pidOf(t *testing.T, p *dockertest.Private, job runner.Job) int {
	t.Helper()
	ctx := context.Background()
	list, err := p.Client.ContainerList(ctx, client.ContainerListOptions{
		Filters: make(client.Filters).Add("label", docker.LabelCommand+"="+job.ID),
	})
	require.NoError(t, err)
	require.Len(t, list.Items, 1)
	c, err := p.Client.ContainerInspect(ctx, list.Items[0].ID, client.ContainerInspectOptions{})
	require.NoError(t, err)
	require.NotZero(t, c.Container.State.Pid)
	return c.Container.State.Pid
}

func requireNoProcess(t *testing.T, pid int) {
	t.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	require.True(t, err != nil || len(text) == 0, "%s", text) // a zombie has none
}

// TestContainerdIsDeadAtTheEnd has an engine that calls a container running which has
// ended: its containerd died before. The benchmark's own end counts.
func TestContainerdIsDeadAtTheEnd(t *testing.T) {
	t.Parallel()
	p, r := privateEngine(t)
	var out runnertest.Recorder
	done := whenPrinted(t, &out, "line 10\n", func() { require.NoError(t, p.StopContainerd()) })
	_, err := r.Run(within(t, time.Minute), privateJob(t, "fake:lines=100,delay=10ms"), &out)
	<-done
	require.NoError(t, err)
	require.Equal(t, lines(0, 100), out.Text())
	require.NoError(t, p.StartContainerd())
	requireSwept(t, p, r)
}

// requireSwept waits until Sweep has removed all containers. The engine may be busy
// with what it was asked for before.
func requireSwept(t *testing.T, p *dockertest.Private, r *docker.Runner) {
	t.Helper()
	require.Eventually(t, func() bool {
		_, err := r.Sweep(context.Background(), func(string) bool { return false }, 0)
		list, listErr := p.Client.ContainerList(context.Background(), client.ContainerListOptions{All: true})
		return err == nil && listErr == nil && len(list.Items) == 0
	}, time.Minute, 100*time.Millisecond)
}

// TestContainerdIsDeadAndTheSupervisorIsKilled has one that calls a container running
// of which nothing lives, and nothing says how it ended. It doesn't hold the job up.
func TestContainerdIsDeadAndTheSupervisorIsKilled(t *testing.T) {
	t.Parallel()
	p, r := privateEngine(t)
	job := privateJob(t, "fake:lines=2,hang")
	var out runnertest.Recorder
	done := whenPrinted(t, &out, "line 1\n", func() {
		pid := pidOf(t, p, job)
		require.NoError(t, p.StopContainerd())
		require.NoError(t, unix.Kill(pid, unix.SIGKILL))
	})
	_, err := r.Run(within(t, time.Minute), job, &out)
	<-done
	require.ErrorIs(t, err, runner.ErrLost)
	require.ErrorContains(t, err, "containerd has died")
	require.Equal(t, lines(0, 2), out.Text())
	require.NoError(t, p.StartContainerd())
	requireSwept(t, p, r)
}

// TestCancelWithoutTheEngine stops a job while the engine, or what it needs, is gone
// for good. Nothing of it lives then, and the container is removed later.
func TestCancelWithoutTheEngine(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		harm, mend func(*dockertest.Private) error
	}{
		"killed": {(*dockertest.Private).Kill, func(p *dockertest.Private) error { return p.Start(context.Background()) }},
		"frozen": {
			func(p *dockertest.Private) error { return p.Signal(unix.SIGSTOP) },
			func(p *dockertest.Private) error { return p.Signal(unix.SIGCONT) },
		},
		"without containerd": {(*dockertest.Private).StopContainerd, (*dockertest.Private).StartContainerd},
	} {
		for _, model := range []string{"fake:lines=1,hang", "fake:lines=1,fork-session,hang,ignore-term"} {
			t.Run(name+" "+model, func(t *testing.T) {
				t.Parallel()
				p, r := privateEngine(t, "--live-restore")
				job := privateJob(t, model)
				cause := errors.New("stopped by a test")
				ctx, cancel := context.WithCancelCause(t.Context())
				var out runnertest.Recorder
				var pid int
				var begin time.Time
				done := whenPrinted(t, &out, "line 0\n", func() {
					pid = pidOf(t, p, job)
					require.NoError(t, c.harm(p))
					begin = time.Now()
					cancel(cause)
				})
				_, err := r.Run(ctx, job, &out)
				<-done
				requireNoProcess(t, pid)
				require.EqualError(t, err, cause.Error(), "nothing is left of it")
				require.Less(t, time.Since(begin), 20*time.Second)
				require.NoError(t, c.mend(p))
				requireSwept(t, p, r)
			})
		}
	}
}
