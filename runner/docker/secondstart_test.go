package docker_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/docker"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// secondStarts are the ways in which somebody else starts a container again.
var secondStarts = map[string]func(ctx context.Context, id string) error{
	"restart": func(ctx context.Context, id string) error {
		grace := 5
		_, err := engine.Client.ContainerRestart(ctx, id, client.ContainerRestartOptions{Timeout: &grace})
		return err
	},
	"stop and start": func(ctx context.Context, id string) error {
		grace := 5
		if _, err := engine.Client.ContainerStop(ctx, id, client.ContainerStopOptions{Timeout: &grace}); err != nil {
			return err
		}
		_, err := engine.Client.ContainerStart(ctx, id, client.ContainerStartOptions{})
		return err
	},
	"kill and start": func(ctx context.Context, id string) error {
		if _, err := engine.Client.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: "KILL"}); err != nil {
			return err
		}
		wait := engine.Client.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
		select {
		case <-wait.Result:
		case err := <-wait.Error:
			return err
		}
		_, err := engine.Client.ContainerStart(ctx, id, client.ContainerStartOptions{})
		return err
	},
}

// TestSecondStart starts a container again in mid-run, with and without an agent that
// follows it. That is not the run: it has not succeeded, and none of its lines is
// there twice.
func TestSecondStart(t *testing.T) {
	needEngine(t)
	t.Parallel()
	for name, again := range secondStarts {
		for _, followed := range []bool{true, false} {
			t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
				t.Parallel()
				r, job := newRunner(t, docker.Config{}), newJob(t, "fake:lines=300,delay=10ms")
				out, err := secondStart(t, r, job, again, followed)
				require.Error(t, err)
				require.NotErrorIs(t, err, runner.ErrNotReady)
				text := out.Text()
				require.True(t, strings.HasPrefix(lines(0, 300), text), "%q", text)
				require.NotEqual(t, lines(0, 300), text)
				require.Eventually(t, func() bool { // it ends by itself
					for _, id := range containers(t, job) {
						c, err := engine.Client.ContainerInspect(context.Background(), id, client.ContainerInspectOptions{})
						if err == nil && c.Container.State.Running {
							return false
						}
					}
					return true
				}, 20*time.Second, 10*time.Millisecond)
			})
		}
	}
}

func secondStart(t *testing.T, r *docker.Runner, job runner.Job, again func(context.Context, string) error, followed bool) (*runnertest.Recorder, error) {
	if !followed {
		out := detached(t, r, job, "line 20\n")
		require.NoError(t, again(t.Context(), containers(t, job)[0]))
		_, err := r.Resume(within(t, time.Minute), job, out.Position(), out)
		return out, err
	}
	var out runnertest.Recorder
	done := whenPrinted(t, &out, "line 20\n", func() {
		// The container may be removed once its run has ended.
		_ = again(context.Background(), containers(t, job)[0])
	})
	_, err := r.Run(within(t, time.Minute), job, &out)
	<-done
	return &out, err
}
