package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"
	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner/docker"
	"github.com/kirizan/kitt-agent/runner/docker/dockertest"
)

// BenchmarkUndisturbedContainer is BenchmarkUndisturbed for containers. The time
// is compared with that of the same benchmark in a container of the same kind,
// without an agent, that writes to a file of its own in a mounted directory. The
// engine is one of the benchmark's own, with --live-restore; it is killed
// or stopped while the benchmark prints, too.
func BenchmarkUndisturbedContainer(b *testing.B) {
	prog := buildProgram(b)
	in := newContained(b, prog)
	b.Setenv("DOCKER_HOST", in.engine.Host)
	const (
		flood = "fake:lines.100000_width.100_clock_no-metrics"
		long  = "fake:lines.400000_width.100_clock_no-metrics" // it is still printing when the engine has started it
	)
	for _, c := range []undisturbed{
		{name: "none", model: flood},
		{name: "frozen agent", model: flood, frozen: true},
		{name: "dead server", model: flood, deadServer: true},
		{name: "stuck readers", model: flood, readers: 50},
		{name: "killed engine", model: long, engine: (*dockertest.Private).Kill},
		{name: "stopped engine", model: long, engine: (*dockertest.Private).Stop},
	} {
		c.container = in
		b.Run(c.name, func(b *testing.B) { c.run(b, prog) })
	}
}

// contained is an engine with the image kitt:latest.
type contained struct{ engine *dockertest.Private }

func newContained(b *testing.B, prog program) *contained {
	b.Helper()
	return &contained{privateEngine(b, prog, "--live-restore")}
}

// harm does something to the engine once it has started the job's container: an
// engine that stops before takes the start back.
func (in *contained) harm(b *testing.B, job string, what func(*dockertest.Private) error) {
	b.Helper()
	filter := client.ContainerListOptions{Filters: make(client.Filters).Add("label", docker.LabelCommand+"="+job)}
	waitFor(b, b.Context(), "the container runs", func() bool {
		list, err := in.engine.Client.ContainerList(b.Context(), filter)
		return err == nil && len(list.Items) == 1
	})
	require.NoError(b, what(in.engine))
}

// aloneSeconds runs the benchmark in a container as the agent makes them, but
// without anything in front, into a file of its own on the disk of a directory.
func (in *contained) aloneSeconds(b *testing.B, disk, model string) (seconds float64) {
	b.Helper()
	dir, err := os.MkdirTemp(disk, ".alone-*")
	require.NoError(b, err)
	defer os.RemoveAll(dir)
	ctx := context.Background()
	noInit := false
	made, err := in.engine.Client.ContainerCreate(ctx, client.ContainerCreateOptions{
		Config: &container.Config{
			Image: "kitt:latest", Entrypoint: []string{"kitt"},
			Cmd: strings.Fields("run -m " + model + "_own-file -e vllm -s quick -o " + dir),
		},
		HostConfig: &container.HostConfig{
			Init: &noInit, NetworkMode: "host", Mounts: []mount.Mount{{Type: mount.TypeBind, Source: dir, Target: dir}},
		},
	})
	require.NoError(b, err)
	defer func() {
		_, removeErr := in.engine.Client.ContainerRemove(ctx, made.ID, client.ContainerRemoveOptions{Force: true})
		require.NoError(b, errors.Join(err, removeErr))
	}()
	_, err = in.engine.Client.ContainerStart(ctx, made.ID, client.ContainerStartOptions{})
	require.NoError(b, err)
	output := filepath.Join(dir, "output")
	waitFor(b, ctx, output, func() bool { return exists(output) && secondsIn(b, output) > 0 })
	return secondsIn(b, output)
}
