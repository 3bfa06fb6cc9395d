// Package docker runs benchmarks in containers of the local Docker engine.
//
// A run is a container whose name and labels follow from the job's ID. It
// belongs to the engine, not to this program, so it goes on while no agent is
// there and is found again; see [Runner.Resume]. Its first process is the
// supervisor of package runner/supervisor, mounted into it: the benchmark's
// output and outcome go to files in Job.Dir/run, so neither the engine nor the
// agent can slow it, lose a line of it, or be wrong about its end.
//
// The benchmark itself starts engine containers next to its own. It does so through a
// socket proxy of the job's own (package socketproxy), which labels them, so a run that
// has ended leaves none of them behind, and no run touches those of others. See
// [Config.EngineSocket].
package docker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/moby/moby/client"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/docker/socketproxy"
	"github.com/kirizan/kitt-agent/runner/supervisor/program"
)

// Labels of the containers of this package.
const (
	LabelCommand = "io.kitt.command" // the job's ID
	LabelOwner   = "io.kitt.owner"   // Config.Owner

	// LabelSupervised is the version of the files that the container's supervisor
	// writes. Containers of agents from before package supervisor have none.
	LabelSupervised = "io.kitt.supervised"
)

// Defaults of Config.
const (
	DefaultImage   = "kitt:latest"
	DefaultOwner   = "kitt-agent"
	DefaultTimeout = 30 * time.Second
)

// Config says how benchmarks are run. Its zero value is ready for use.
type Config struct {
	// Host is the engine's address, such as unix:///run/docker.sock. Empty means
	// DOCKER_HOST, or the usual socket.
	Host string

	// DefaultImage is tried when a job names no image, or one that can't be
	// used. Empty means kitt:latest.
	DefaultImage string

	// Owner tells the containers of this agent from those of others on the same
	// engine. Empty means kitt-agent.
	Owner string

	// Env is added to the environment that the image gives the benchmark.
	Env []string

	// Supervisor says where the program comes from that runs in front of the
	// benchmark in its container; see package runner/supervisor/program.
	Supervisor program.Source

	// EngineSocket says which socket of the engine benchmarks get. Empty means
	// SocketProxy.
	EngineSocket EngineSocket

	// SocketProxy says where the program of the socket proxy comes from. Its Tool is
	// set by New.
	SocketProxy program.Source

	// EngineImages are the images that benchmarks may start containers of, as
	// [socketproxy.Policy] has them. Nil means [socketproxy.DefaultImages].
	EngineImages []string

	// Caches are directories that engine containers may mount, and write to. Each is
	// an absolute path.
	Caches []string

	// LinkDirs are the directories into which links in a model may lead, such as those
	// that models are kept in. What such links lead to is mounted with the model,
	// read-only.
	LinkDirs []string

	// Network says which network a benchmark and its engine containers are in. Empty
	// means [socketproxy.NetworkHost]. With [socketproxy.NetworkJob] no other job and
	// no program of the machine can hold the ports of its engines; it needs a socket
	// proxy.
	Network socketproxy.Network

	// User is who a benchmark is in its container: a user as `docker run --user` takes
	// it, or ImageUser for that of the image. Empty means the agent's own user where the
	// image's is root, and the image's otherwise. Through SocketHost only the image's
	// can reach the engine, so User and CapAdd have no effect.
	User string

	// LogLimit is the most bytes that a run's output takes on the disk. Beyond it
	// the oldest output goes, and the job's log says what is missing if the agent
	// had not read it. It needs a file system with holes. Zero means
	// [supervisor.DefaultLimit], and less than zero no limit.
	LogLimit int64

	// CapAdd are the capabilities that a benchmark has in its container, by their names
	// without CAP_, beyond DAC_OVERRIDE for root. Its engines' containers have the
	// container engine's usual ones.
	CapAdd []string

	// Pids is how many processes and threads a benchmark's container has at most, and
	// each of its engines'. Zero means [socketproxy.DefaultPids].
	Pids int64

	// MemoryPercent is the share of the machine's RAM that a benchmark's container has
	// at most, and each of its engines', from 1 to 100. Zero means no limit.
	MemoryPercent int

	// ReadOnlyRoot keeps the benchmark from writing to its container's own file
	// system. It writes to its results all the same.
	ReadOnlyRoot bool

	// Logger is told about trouble with the engine. Nil means silence.
	Logger *slog.Logger

	// Timeout bounds each call to the engine; starting and stopping a container
	// gets more. Zero means 30 s.
	Timeout time.Duration
}

// A Runner runs benchmarks in containers. It keeps a file in the subdirectory
// docker of the job's directory.
type Runner struct {
	config  Config
	engine  *client.Client
	program *program.Finder // of the supervisor
	proxy   *program.Finder // of the socket proxy
	log     *slog.Logger

	answered atomic.Bool // whether the engine has ever answered this program
}

var (
	_ runner.Resumer         = (*Runner)(nil)
	_ runner.Cleaner         = (*Runner)(nil)
	_ runner.Sweeper         = (*Runner)(nil)
	_ runner.Checker         = (*Runner)(nil)
	_ runner.StartChecker    = (*Runner)(nil)
	_ runner.ContainerRunner = (*Runner)(nil)
)

// kind is what this runner calls itself in results.
const kind = "docker"

// New returns a Runner. It doesn't call the engine: an error is one of Config.
func New(config Config) (*Runner, error) {
	if config.DefaultImage == "" {
		config.DefaultImage = DefaultImage
	}
	if config.Owner == "" {
		config.Owner = DefaultOwner
	}
	if config.Timeout <= 0 {
		config.Timeout = DefaultTimeout
	}
	if err := config.socket(); err != nil {
		return nil, err
	}
	options := []client.Opt{client.FromEnv}
	if config.Host != "" {
		options = append(options, client.WithHost(config.Host))
	}
	engine, err := client.New(options...)
	if err != nil {
		return nil, fmt.Errorf("docker host %q: %w", config.Host, err)
	}
	log := config.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Runner{
		config: config, engine: engine, log: log,
		program: program.NewFinder(config.Supervisor), proxy: program.NewFinder(config.SocketProxy),
	}, nil
}

// socket sets the defaults of what has to do with the socket proxy, and returns what is
// wrong with it.
func (c *Config) socket() error {
	c.EngineSocket = cmp.Or(c.EngineSocket, SocketProxy)
	c.Network = cmp.Or(c.Network, socketproxy.NetworkHost)
	c.SocketProxy.Tool = program.SocketProxy
	if c.EngineImages == nil {
		c.EngineImages = socketproxy.DefaultImages()
	}
	switch {
	case c.EngineSocket != SocketProxy && c.EngineSocket != SocketHost && c.EngineSocket != SocketNone:
		return fmt.Errorf("docker: EngineSocket is %q, not proxy, host or none", c.EngineSocket)
	case c.Network != socketproxy.NetworkHost && c.Network != socketproxy.NetworkJob:
		return fmt.Errorf("docker: Network is %q, not host or job", c.Network)
	case c.Network == socketproxy.NetworkJob && c.EngineSocket == SocketHost:
		return errors.New("docker: Network is job, which needs a socket proxy, and EngineSocket is host")
	case c.MemoryPercent < 0 || c.MemoryPercent > 100:
		return fmt.Errorf("docker: MemoryPercent is %d, not from 0 to 100", c.MemoryPercent)
	case c.Pids < 0:
		return fmt.Errorf("docker: Pids is %d, which is negative", c.Pids)
	}
	if c.Pids == 0 {
		c.Pids = socketproxy.DefaultPids
	}
	return socketproxy.CheckImages(c.EngineImages)
}

// Close gives up the connections to the engine.
func (r *Runner) Close() error { return r.engine.Close() }

// Ping returns nil if the engine answers. Otherwise the error is a [*runner.Error]
// that matches [runner.ErrNotReady], or [runner.ErrUnavailable] if this machine has
// no engine.
func (r *Runner) Ping(ctx context.Context) error {
	_, err := r.architecture(ctx)
	return err
}

// CheckStart is Ping: jobs wait for an engine that does not answer.
func (r *Runner) CheckStart(ctx context.Context) error { return r.Ping(ctx) }

// Ready returns nil if a job could be run in a container: the engine answers, and
// the programs that run with the benchmark are there. Otherwise the error is that of
// Ping, or matches [runner.ErrUnavailable].
func (r *Runner) Ready(ctx context.Context) error {
	if _, err := r.program.Find(ctx); err != nil {
		return err
	}
	if _, err := r.findProxy(ctx); err != nil {
		return err
	}
	return r.Ping(ctx)
}

// Check says that no job can be run in a container, if that is known already
// because a program is missing that runs with the benchmark.
func (r *Runner) Check() error {
	if err := r.program.Known(); err != nil || !r.proxied() {
		return err
	}
	return r.proxy.Known()
}

// engineImages says which images are those of an inference engine, by prefixes
// of repository:tag.
var engineImages = []struct {
	engine   string
	prefixes []string
}{
	{"vllm", []string{"vllm/vllm-openai", "nvcr.io/nvidia/vllm"}},
	{"llama_cpp", []string{"ghcr.io/ggml-org/llama.cpp", "ghcr.io/ggerganov/llama.cpp", "kitt/llama-cpp"}},
	{"ollama", []string{"ollama/ollama"}},
}

// Engines returns the inference engines of which there is an image on this
// machine.
func (r *Runner) Engines(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	images, err := r.engine.ImageList(ctx, client.ImageListOptions{})
	if err != nil {
		return nil, r.unreachable(err)
	}
	var found []string
	for _, e := range engineImages {
		for _, image := range images.Items {
			if slices.ContainsFunc(image.RepoTags, func(tag string) bool {
				return slices.ContainsFunc(e.prefixes, func(p string) bool { return strings.HasPrefix(tag, p) })
			}) {
				found = append(found, e.engine)
				break
			}
		}
	}
	return found, nil
}

// architecture returns the engine's, by Go's names.
func (r *Runner) architecture(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	version, err := r.engine.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		if e := r.notInstalled(); e != nil {
			return "", e
		}
		return "", r.unreachable(err)
	}
	r.answered.Store(true)
	return version.Arch, nil
}

// socket returns the path of the engine's socket, as the benchmark needs it.
func (r *Runner) socket() string {
	if path, ok := strings.CutPrefix(r.engine.DaemonHost(), "unix://"); ok {
		return path
	}
	return usualSocket
}

// usualSocket is where kitt looks for the engine by itself.
const usualSocket = "/var/run/docker.sock"
