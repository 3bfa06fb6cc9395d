package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/slurm"
	"github.com/kirizan/kitt-agent/runner/slurm/slurmtest"
	"github.com/kirizan/kitt-agent/storage"
)

// slurmCluster returns a cluster of the test's own, or skips the test without Slurm.
func slurmCluster(t *testing.T) *slurmtest.Cluster {
	t.Helper()
	if err := slurmtest.Missing(slurmtest.Config{}); err != nil {
		require.NotEqual(t, "1", os.Getenv("KITT_TEST_SLURM"), "Slurm: %v", err)
		t.Skipf("SKIPPED for want of Slurm: %v", err)
	}
	dir, err := os.MkdirTemp("", "slurm")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	c, err := slurmtest.Start(t.Context(), dir, slurmtest.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// An agent on a login node is killed three times while its benchmark runs on a node; the
// server has every line once. A second test is cancelled, and its job goes.
func TestAnAgentOnALoginNode(t *testing.T) {
	t.Parallel()
	c, prog := slurmCluster(t), buildProgram(t)
	server, err := kittapitest.NewServer(kittapitest.Config{})
	require.NoError(t, err)
	defer server.Close()
	server.AddAgent("chaos")
	id, _, err := server.Launch("chaos", "fake:lines.100_delay.150ms")
	require.NoError(t, err)
	d := newDaemon(t, prog, server.URL, "slurm", "slurm: {partition: gpu, gpus: 8, command: ["+filepath.Join(prog.bin, "kitt")+"]}")
	d.env = c.Env()
	d.start()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for kills := 1; kills <= 3; kills++ {
		require.NoError(t, waitForLines(ctx, server, id, kills*20), tail(d))
		d.kill()
		d.start()
	}
	require.NoError(t, server.WaitForEnd(ctx, id), "agent's log:\n%s", tail(d))
	row, _ := server.Test(id)
	require.Equal(t, []string{"queued", "dispatched", "running", "completed"}, row.History, row.Error)
	got := numbersOf(server.Lines(id))
	require.Len(t, got, 100, strings.Join(server.Lines(id), "\n"))
	for i, n := range got {
		require.Equal(t, i, n)
	}
	registered, ok := server.Agent("chaos")
	require.True(t, ok)
	require.EqualValues(t, 8, registered.Fields["gpu_count"], "the nodes' and not this machine's")

	second, commandID, err := server.Launch("chaos", "fake:lines.1_hang")
	require.NoError(t, err)
	require.NoError(t, waitForLines(ctx, server, second, 1), tail(d))
	table, err := d.output("test", "list")
	require.NoError(t, err)
	status, ok := slurm.ReadStatus(filepath.Join(d.home, "jobs", commandID))
	require.True(t, ok)
	require.Contains(t, table, "SLURM")
	require.Contains(t, table, status.ID)
	shown, err := d.output("status")
	require.NoError(t, err)
	require.Contains(t, shown, "Slurm "+status.ID)
	d.command(`{"type":"cancel","test_id":"` + second + `"}`)
	require.NoError(t, server.WaitForEnd(ctx, second), tail(d))
	left, err := c.Output(t.Context(), "squeue", "-h", "-t", "R,PD")
	require.NoError(t, err)
	require.Empty(t, left)
	d.stop()
	require.Empty(t, processesOf(t, prog))
}

// The checks before a start submit a probe job.
func TestPreflightOfACluster(t *testing.T) {
	t.Parallel()
	c, prog := slurmCluster(t), buildProgram(t)
	d := newDaemon(t, prog, "http://127.0.0.1:1", "slurm", "slurm: {partition: gpu, gpus: 8}")
	d.env = c.Env()
	text, _ := d.output("preflight", "--json") // the server is not there
	var report struct {
		Checks []struct{ Name, Status, Details string }
	}
	require.NoError(t, json.Unmarshal([]byte(text), &report), text)
	found := map[string]string{}
	for _, check := range report.Checks {
		found[check.Name] = check.Status + ": " + check.Details
	}
	require.Contains(t, found["slurm"], "ok: slurm-wlm")
	require.Contains(t, found["partition"], "2 nodes with 8 GPUs each")
	require.Contains(t, found["shared directory"], "ok: ")
}

// A model is copied to the node and stays for as long as the benchmark runs. What a job
// has left there whose node failed is released.
func TestFetchModel(t *testing.T) {
	t.Parallel()
	shared, node := t.TempDir(), filepath.Join(t.TempDir(), "models")
	model := filepath.Join(shared, "org/qwen")
	require.NoError(t, os.MkdirAll(model, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(model, "config.json"), []byte("{}"), 0o644))
	cfg := storage.Config{Settings: storage.Settings{Dir: node, ShareMount: shared, AutoCleanup: true}, Owner: "gpu-1"}
	job := runner.Job{ID: "1", Dir: t.TempDir(), Model: model}
	text, err := json.Marshal(job)
	require.NoError(t, err)

	in, write := io.Pipe()
	read, out := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- fetchModel(t.Context(), cfg, in, out) }()
	_, err = write.Write(append(text, '\n'))
	require.NoError(t, err)
	var there runner.Job
	require.NoError(t, json.NewDecoder(read).Decode(&there))
	require.Equal(t, filepath.Join(node, "org/qwen"), there.Model)
	require.FileExists(t, filepath.Join(there.Model, "config.json"))
	require.NoError(t, write.Close())
	require.NoError(t, <-done)
	require.NoDirExists(t, there.Model, "nobody needs it any more")

	require.ErrorContains(t, fetchModel(t.Context(), cfg, strings.NewReader("no job"), io.Discard), "read the job")
}

// What runs kitt on a node follows from slurm.container, or is what slurm.command says.
func TestNodeCommands(t *testing.T) {
	t.Parallel()
	cfg := &config.Config{Slurm: config.Slurm{GPUs: 2, Container: "podman"}}
	job := runner.Job{ID: "1", Model: "/models/qwen", ResultsDir: "/r", Image: "kitt:1", Engine: "vllm", Suite: "quick", GPUs: []string{"0", "3"}}
	command, after := nodeCommand(cfg)
	require.NoError(t, slurm.CheckCommand(command))
	require.NoError(t, slurm.CheckCommand(after))
	require.Equal(t, "podman run --rm --name=kitt-1 --network=host --ipc=host --entrypoint=kitt --volume=/r:/r --volume=/models:/models:ro "+
		"--device=nvidia.com/gpu=0 --device=nvidia.com/gpu=3 kitt:1 run -m /models/qwen -e vllm -s quick -o /r", strings.Join(slurm.Command(command, job), " "))
	cfg.Slurm.Container = "docker"
	command, _ = nodeCommand(cfg)
	require.Contains(t, slurm.Command(command, job), `--gpus="device=0,3"`)
	cfg.Slurm = config.Slurm{Command: []string{"apptainer", "{args}"}}
	command, after = nodeCommand(cfg)
	require.Equal(t, []string{"apptainer", "{args}"}, command)
	require.Empty(t, after)
}

func TestMachineOfAPartition(t *testing.T) {
	t.Parallel()
	nodes := []slurm.Node{{Name: "n1"}, {Name: "n2", GPUs: 2, GPUType: "h200", Arch: "x86_64", CPUs: 64, MemoryBytes: 1 << 30}}
	m := machineOf(nodes, "login")
	require.Equal(t, "login", m.Hostname)
	require.Len(t, m.GPUs, 2)
	require.Equal(t, hwdetect.CPU{Arch: "amd64", Threads: 64}, m.CPU)
	require.Equal(t, "NVIDIA H200", m.GPUs[0].Model)
	require.EqualValues(t, 1<<30, m.MemoryBytes)
	require.Empty(t, machineOf(nil, "login").GPUs)
	require.True(t, isAmong(&hwdetect.Machine{Hostname: "n2", GPUs: m.GPUs}, nodes))
	require.False(t, isAmong(&hwdetect.Machine{Hostname: "n3", GPUs: m.GPUs}, nodes))
}

// With slurm.container: docker the node runs kitt_image, and a cancel leaves no container.
func TestAContainerOnANode(t *testing.T) {
	t.Parallel()
	e := dockerEngine(t)
	if _, err := exec.LookPath("docker"); err != nil {
		t.Skip("SKIPPED for want of the command docker")
	}
	c, prog := slurmCluster(t), buildProgram(t)
	image := fmt.Sprintf("kitt-agent-slurm-test:%d", os.Getpid())
	require.NoError(t, e.Build(t.Context(), image, filepath.Join(prog.bin, "kitt"), ""))
	t.Cleanup(func() { require.NoError(t, e.Remove(context.Background(), image)) })
	server, err := kittapitest.NewServer(kittapitest.Config{})
	require.NoError(t, err)
	defer server.Close()
	server.AddAgent("chaos")
	first, _, err := server.Launch("chaos", "fake:lines.5")
	require.NoError(t, err)
	second, commandID, err := server.Launch("chaos", "fake:lines.1_hang_ignore-term")
	require.NoError(t, err)
	d := newDaemon(t, prog, server.URL, "slurm", "slurm: {partition: gpu, gpus: 0, container: docker}", "kitt_image: "+image)
	d.env = c.Env()
	d.start()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	require.NoError(t, server.WaitForEnd(ctx, first), tail(d))
	row, _ := server.Test(first)
	require.Equal(t, "completed", row.Status, "%s\n%s", row.Error, strings.Join(server.Lines(first), "\n"))
	require.Len(t, numbersOf(server.Lines(first)), 5)
	require.NoError(t, waitForLines(ctx, server, second, 1), tail(d))
	d.command(`{"type":"cancel","test_id":"` + second + `"}`)
	require.NoError(t, server.WaitForEnd(ctx, second), tail(d))
	list, err := e.Client.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: client.Filters{}.Add("name", "kitt-"+commandID)})
	require.NoError(t, err)
	require.Empty(t, list.Items)
	d.stop()
}
