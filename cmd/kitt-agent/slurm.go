package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/standard"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/internal/rules"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/docker"
	"github.com/kirizan/kitt-agent/runner/slurm"
	staticprogram "github.com/kirizan/kitt-agent/runner/supervisor/program"
	"github.com/kirizan/kitt-agent/storage"
)

const runnerSlurm = "slurm"

// sharedDir returns the directory that all nodes see.
func sharedDir(cfg *config.Config) string {
	if cfg.Slurm.SharedDir == "" {
		return cfg.Home
	}
	return config.Expand(cfg.Slurm.SharedDir)
}

// slurmConfig returns what agent.yaml says of the cluster.
func slurmConfig(cfg *config.Config) slurm.Config {
	if cfg.Runner != runnerSlurm {
		return slurm.Config{}
	}
	finder := staticprogram.NewFinder(supervisorSource(cfg))
	s := slurm.Config{
		SharedDir: sharedDir(cfg), Wrapper: func(ctx context.Context) (string, string, error) { return installWrapper(ctx, cfg, finder) },
		Partition: cfg.Slurm.Partition, Account: cfg.Slurm.Account, QOS: cfg.Slurm.QOS, Time: cfg.Slurm.Time,
		GPUs: cfg.Slurm.GPUs, GPUType: cfg.Slurm.GPUType, Exclusive: cfg.Slurm.Exclusive, Args: cfg.Slurm.Args,
		Image: cfg.KITTImage, LogLimit: logLimit(cfg),
	}
	if s.Image == "" {
		s.Image = docker.DefaultImage
	}
	s.Command, s.After = nodeCommand(cfg)
	// The program that describes the node and brings models to it is this one.
	if exe, err := nodeProgram(cfg); err == nil {
		s.Describe = []string{exe, "hardware", "--json"}
		if cfg.Exists() {
			s.Describe = append(s.Describe, "--config", cfg.Path)
		}
		if cfg.Slurm.NodeDir != "" {
			s.Fetch = []string{exe, fetchModelCommand, config.Expand(cfg.Slurm.NodeDir), modelDir(cfg), cfg.Name}
		}
	}
	return s
}

// nodeProgram returns the path by which nodes find this program.
func nodeProgram(cfg *config.Config) (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	return slurm.Install(sharedDir(cfg), exe)
}

// installWrapper returns the program that Slurm starts on nodes, where they find it.
func installWrapper(ctx context.Context, cfg *config.Config, finder *staticprogram.Finder) (program, argument string, err error) {
	found, err := finder.Find(ctx)
	if err != nil {
		return "", "", err
	}
	program, err = slurm.Install(sharedDir(cfg), found.Path)
	if err != nil {
		return "", "", fmt.Errorf("bring the program for nodes to the shared directory: %w", err)
	}
	return program, slurm.NodeWord, nil
}

// nodeCommand returns what runs kitt on a node, and what ends it there.
func nodeCommand(cfg *config.Config) (command, after []string) {
	engine := cfg.Slurm.Container
	switch {
	case len(cfg.Slurm.Command) > 0:
		return cfg.Slurm.Command, nil
	case engine == "none" || engine == "":
		return []string{"kitt"}, nil
	}
	const name = "kitt-{job}"
	command = []string{engine, "run", "--rm", "--name=" + name, "--network=host", "--ipc=host", "--entrypoint=kitt", "{volumes}"}
	if uid := os.Getuid(); uid != 0 && engine == "docker" { // podman maps this user to root
		command = append(command, fmt.Sprintf("--user=%d:%d", uid, os.Getgid()))
	}
	switch {
	case cfg.Slurm.GPUs == 0:
	case engine == "docker":
		command = append(command, `--gpus="device={gpus}"`)
	default:
		command = append(command, "{devices}")
	}
	for _, v := range slices.Sorted(maps.Keys(cfg.Env)) {
		command = append(command, "--env="+v)
	}
	return append(command, "{image}", "{args}"), []string{engine, "rm", "--force", name}
}

// clusterOf returns the runner of a cluster, or nil.
func clusterOf(run runner.Runner) *slurm.Runner {
	r, ok := run.(*standard.Runner)
	if !ok {
		return nil
	}
	return r.Cluster()
}

// clusterTimeout bounds a question about the cluster at the start.
const clusterTimeout = 15 * time.Second

// usualSlots is how many jobs are submitted at once where the partition does not say.
const usualSlots = 64

// clusterSlots returns how many jobs the partition has room for.
func clusterSlots(ctx context.Context, cfg *config.Config, cluster *slurm.Runner, log *slog.Logger) int {
	ctx, cancel := context.WithTimeout(ctx, clusterTimeout)
	defer cancel()
	nodes, err := cluster.Nodes(ctx)
	if err != nil {
		log.Warn("size of the partition not known", "err", err, "max_concurrent_jobs", usualSlots)
		return usualSlots
	}
	slots := 0
	for _, n := range nodes {
		switch {
		case cfg.Slurm.GPUs == 0 || cfg.Slurm.Exclusive:
			slots++
		case cfg.Slurm.GPUType == "" || cfg.Slurm.GPUType == n.GPUType:
			slots += n.GPUs / cfg.Slurm.GPUs
		}
	}
	slots = min(max(slots, 1), rules.MaxJobs)
	log.Info("partition asked", "nodes", len(nodes), "max_concurrent_jobs", slots)
	return slots
}

// chooseDetector returns what describes the machine that benchmarks run on.
func chooseDetector(cfg *config.Config, parts *standard.Parts) hwdetect.Detector {
	if cluster := parts.Runner.Cluster(); cluster != nil {
		return &partitionDetector{cluster: cluster, home: cfg.Home, local: parts.Detector}
	}
	return parts.Detector
}

// A partitionDetector describes a node of the cluster's partition in place of this
// machine: as the last job there has described it, else as Slurm does.
type partitionDetector struct {
	cluster *slurm.Runner
	home    string
	local   hwdetect.Detector
}

func (d *partitionDetector) Detect(ctx context.Context) (*hwdetect.Machine, error) {
	host, _ := os.Hostname()
	nodes, err := d.cluster.Nodes(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return &hwdetect.Machine{Hostname: host, EnvironmentType: "unknown", Gaps: []hwdetect.Gap{{What: "gpus", Reason: err.Error(), Incomplete: true}}}, nil
	}
	if seen := lastMachine(d.home); seen != nil && isAmong(seen, nodes) {
		return seen, nil
	}
	return machineOf(nodes, host), nil
}

// isAmong reports whether a machine is one of nodes, with as many GPUs.
func isAmong(m *hwdetect.Machine, nodes []slurm.Node) bool {
	return slices.ContainsFunc(nodes, func(n slurm.Node) bool { return n.Name == m.Hostname && n.GPUs == len(m.GPUs) })
}

// machineOf describes the node with the most GPUs by what Slurm says of it.
func machineOf(nodes []slurm.Node, host string) *hwdetect.Machine {
	m := &hwdetect.Machine{Hostname: host, EnvironmentType: "native_linux", Gaps: []hwdetect.Gap{{
		What: "driver_version", Reason: "Slurm does not tell; it is known once a job has run on a node",
	}}}
	if len(nodes) == 0 {
		return m
	}
	best := slices.MaxFunc(nodes, func(a, b slurm.Node) int { return a.GPUs - b.GPUs })
	m.MemoryBytes = best.MemoryBytes
	m.CPU = hwdetect.CPU{Arch: dockerArch(best.Arch), Threads: best.CPUs}
	for i := range best.GPUs {
		gpu := hwdetect.GPU{Index: i, Model: best.GPUType}
		if model, ok := hwdetect.LookupGPUModel(best.GPUType); ok {
			gpu.Model, gpu.MemoryBytes, gpu.ComputeCapability = model.Name, model.MemoryBytes, model.ComputeCapability
		}
		m.GPUs = append(m.GPUs, gpu)
	}
	return m
}

func dockerArch(arch string) string {
	switch arch {
	case "x86_64":
		return "amd64"
	case "aarch64":
		return "arm64"
	}
	return arch
}

// maxMachineFile bounds what is read of a node's description, in bytes.
const maxMachineFile = 1 << 20

// lastMachine returns the newest description that a job below home has of its node.
func lastMachine(home string) *hwdetect.Machine {
	jobs, _ := agent.StoredJobs(home) // those whose state can be read
	var (
		newest time.Time
		found  *hwdetect.Machine
	)
	for _, j := range jobs {
		path := filepath.Join(j.Dir, "slurm", slurm.MachineFile)
		info, err := os.Stat(path)
		if err != nil || !info.ModTime().After(newest) {
			continue
		}
		var m hwdetect.Machine
		if base.ReadJSON(path, &m, maxMachineFile) == nil && m.Hostname != "" {
			newest, found = info.ModTime(), &m
		}
	}
	return found
}

// newRunOnNodeCommand returns `kitt-agent run-on-node`.
func newRunOnNodeCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:                slurm.NodeWord,
		Short:              "Run a benchmark on a node of a cluster (used by the agent itself)",
		Example:            "  kitt-agent run-on-node ~/.kitt/jobs/1111222233334444/slurm/spec.json",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			if code := slurm.RunOnNode(args, env.stdout); code != exitOK {
				return &codedError{code: code}
			}
			return nil
		},
	}
}

// fetchModelCommand is the hidden command that brings a model to a node.
const fetchModelCommand = "fetch-model"

// newFetchModelCommand returns `kitt-agent fetch-model`.
func newFetchModelCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:     fetchModelCommand + " <node directory> <model directory> <owner>",
		Short:   "Bring a model to a node of a cluster (used by the agent itself)",
		Example: "  kitt-agent fetch-model /local/models /shared/models gpu-1",
		Hidden:  true,
		Args:    exactly(3, "a directory or the owner"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
			defer stop()
			return fetchModel(ctx, storage.Config{Settings: storage.Settings{Dir: args[0], ShareMount: args[1]}, Owner: args[2]}, env.stdin, env.stdout)
		},
	}
}

// fetchModel reads a job, copies its model to the node and keeps it until in ends; see
// slurm.Config.
func fetchModel(ctx context.Context, cfg storage.Config, in io.Reader, out io.Writer) (err error) {
	var job runner.Job
	stream := json.NewDecoder(in)
	if err := stream.Decode(&job); err != nil {
		return fmt.Errorf("read the job: %w", err)
	}
	models, err := storage.New(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, models.Close()) }()
	// A job whose node failed has released nothing.
	ended := func(holder string) bool {
		return base.Exists(filepath.Join(holder, "slurm", "exit.json")) || !base.Exists(holder)
	}
	if _, err := models.ReleaseExcept(ctx, func(holder string) bool { return !ended(holder) }); err != nil {
		return err
	}
	lease, err := models.Acquire(ctx, storage.Request{Model: job.Model, Holder: job.Dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lease.Release()) }()
	job.Model, job.ModelFiles = lease.Path, lease.Files
	if err := json.NewEncoder(out).Encode(job); err != nil {
		return err
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		_, _ = io.Copy(io.Discard, in)
	}()
	select {
	case <-over:
	case <-ctx.Done():
	}
	return nil
}
