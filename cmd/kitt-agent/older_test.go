package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/runner/docker/dockertest"
)

// TestUpgradeAndRollbackInMidJob kills the agent in mid-job and starts another
// version of it, in both directions. KITT_TEST_OLDER names a build from before
// the supervisor ran in front of containers; without one the test is skipped.
func TestUpgradeAndRollbackInMidJob(t *testing.T) {
	older := os.Getenv("KITT_TEST_OLDER")
	if older == "" {
		t.Skip("SKIPPED: KITT_TEST_OLDER names no older kitt-agent")
	}
	t.Parallel()
	engine, err := dockertest.Find(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, engine.Close()) })
	prog := buildProgram(t)
	image := fmt.Sprintf("kitt-agent-older:%d", time.Now().UnixNano())
	require.NoError(t, engine.Build(t.Context(), image, prog.bin+"/kitt", ""))
	t.Cleanup(func() { require.NoError(t, engine.Remove(context.Background(), image)) })

	const lines = 80
	for _, c := range []struct {
		runner, order string // o and n: which version runs, one after another
		want          string
	}{
		{"process", "on", "completed"}, {"process", "no", "completed"}, {"process", "onon", "completed"},
		{"docker", "on", "completed"}, {"docker", "ono", "completed"}, {"docker", "onon", "completed"},
		{"docker", "nn", "completed"}, {"docker", "non", "completed"},
		{"docker", "no", "failed"}, // it can't know, but neither ends it nor takes it for completed
	} {
		t.Run(c.runner+"-"+c.order, func(t *testing.T) {
			server, err := kittapitest.NewServer(kittapitest.Config{})
			require.NoError(t, err)
			defer server.Close()
			name := fmt.Sprintf("older-%d", time.Now().UnixNano())
			server.AddAgent(name)
			d := newDaemonNamed(t, prog, name, server.URL, c.runner, "kitt_image: "+image)
			test, command, err := server.Launch(name, fmt.Sprintf("fake:lines.%d_delay.%dms", lines, 100))
			require.NoError(t, err)
			for i, version := range c.order {
				d.kill()
				if d.prog.path = prog.path; version == 'o' {
					d.prog.path = older
				}
				d.start()
				if i == len(c.order)-1 {
					break
				}
				seen := fmt.Sprintf("line %d", 12*(i+1))
				if i > 0 && c.order[i-1] == 'n' && version == 'o' && c.runner == "docker" && !strings.HasPrefix(c.order, "o") {
					seen = "output is in" // all that an older agent sees of such a run
				}
				require.NoError(t, server.WaitForLine(within(t, time.Minute), test, seen), tail(d))
			}
			require.NoError(t, server.WaitForEnd(within(t, time.Minute), test), tail(d))
			row, _ := server.Test(test)
			require.Equal(t, c.want, row.Status, "%s\n%s", row.Error, tail(d))
			got := numbersOf(server.Lines(test))
			for i, n := range got {
				require.Equal(t, i, n, "%v", got)
			}
			if c.want == "completed" {
				require.Len(t, got, lines)
			} else {
				require.FileExists(t, d.home+"/jobs/"+command+"/results/metrics.json", "the benchmark went on")
			}
			list, err := engine.Client.ContainerList(t.Context(), client.ContainerListOptions{
				All: true, Filters: make(client.Filters).Add("label", "io.kitt.owner="+name),
			})
			require.NoError(t, err)
			require.Empty(t, list.Items)
		})
	}
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
