// Package dockercheck has the preflight checks of the Docker engine:
//
//   - This user may use it, and it supports our version of its API.
//   - Containers can use the GPUs.
//   - It has KITT's image for this machine's architecture.
//   - Its disk has enough space.
//   - Control groups and user namespaces are set up so that containers keep their
//     GPUs.
//
// It links the moby client. [New] creates one; [Checks.All] returns the checks.
package dockercheck

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/moby/moby/client"

	"github.com/kirizan/kitt-agent/preflight"
)

// A Config selects the engine and the images. Its zero value is the engine of the
// environment (DOCKER_HOST and the like), KITT's default image and NVIDIA's.
type Config struct {
	// Client is the client of the engine. Defaults to one that New creates from
	// the environment and Close closes.
	Client *client.Client

	// Image is the image that benchmarks run in. Defaults to kitt:latest.
	Image string

	// CUDAImage is the image that is started to check access to GPUs. If it is
	// missing and Image exists, the check uses Image. Defaults to
	// DefaultCUDAImage.
	CUDAImage string

	// Progress is called with the progress of the pull of CUDAImage, at most
	// once per second and concurrently with other checks. Defaults to nothing.
	Progress func(line string)

	// PullLimit is the time limit of a pull, PullSilence how long it may make no
	// progress. Default to 10 minutes and 30 s.
	PullLimit, PullSilence time.Duration

	// Root is a file tree with /dev, /etc and /proc, for what the engine doesn't
	// report. Defaults to the machine's own.
	Root fs.FS
}

// DefaultImage is the image that benchmarks run in by default.
const DefaultImage = "kitt:latest"

// DefaultCUDAImage is a small image from NVIDIA. The GPUs that it can use don't
// depend on its version.
const DefaultCUDAImage = "nvidia/cuda:12.4.1-base-ubuntu22.04"

// Checks are the checks of one engine. Its methods are safe for concurrent use.
type Checks struct {
	cfg       Config
	ownClient bool // whether Close closes the client
	engine    func() (engine, error)
}

// An engine is the engine's description of itself.
type engine struct {
	name                        string // Docker or Podman
	api, version, arch, rootDir string
	cgroupDriver, cgroupVersion string
	security                    []string
	runtimes                    []string
	cdi                         bool // whether it has CDI devices
}

// New returns the checks. It does not connect to the engine. The error is for an
// invalid environment, such as a malformed DOCKER_HOST.
func New(cfg Config) (*Checks, error) {
	if cfg.Image == "" {
		cfg.Image = DefaultImage
	}
	if cfg.CUDAImage == "" {
		cfg.CUDAImage = DefaultCUDAImage
	}
	if cfg.PullLimit == 0 {
		cfg.PullLimit = 10 * time.Minute
	}
	if cfg.PullSilence == 0 {
		cfg.PullSilence = 30 * time.Second
	}
	if cfg.Root == nil {
		cfg.Root = os.DirFS("/")
	}
	c := &Checks{cfg: cfg}
	if cfg.Client == nil {
		cli, err := client.New(client.FromEnv)
		if err != nil {
			return nil, fmt.Errorf("dockercheck: %w", err)
		}
		c.cfg.Client, c.ownClient = cli, true
	}
	c.engine = sync.OnceValues(c.inspect)
	return c, nil
}

// Close closes the client if New created it.
func (c *Checks) Close() error {
	if c.ownClient {
		return c.cfg.Client.Close()
	}
	return nil
}

// All returns all checks of this package.
func (c *Checks) All() []preflight.Check {
	return []preflight.Check{c.Engine(), c.GPU(), c.Image(), c.Space(), c.ControlGroups()}
}

// inspectLimit is the time that the engine has to describe itself. A healthy one
// needs milliseconds; an engine with hanging storage never answers.
const inspectLimit = 8 * time.Second

// inspect gets the engine's description.
func (c *Checks) inspect() (engine, error) {
	ctx, cancel := context.WithTimeout(context.Background(), inspectLimit)
	defer cancel()
	ping, err := c.cfg.Client.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true})
	if err != nil {
		return engine{}, err
	}
	result, err := c.cfg.Client.Info(ctx, client.InfoOptions{})
	if err != nil {
		return engine{api: ping.APIVersion}, err
	}
	info := result.Info
	name := "Docker"
	// Podman answers Docker's API, and only here says who it is.
	if version, err := c.cfg.Client.ServerVersion(ctx, client.ServerVersionOptions{}); err == nil {
		for _, part := range version.Components {
			if strings.Contains(part.Name, "Podman") {
				name = "Podman"
			}
		}
	}
	e := engine{
		name:          name,
		api:           ping.APIVersion,
		version:       info.ServerVersion,
		arch:          dockerArch(info.Architecture),
		rootDir:       info.DockerRootDir,
		cgroupDriver:  info.CgroupDriver,
		cgroupVersion: info.CgroupVersion,
		security:      info.SecurityOptions,
		cdi:           len(info.DiscoveredDevices) > 0,
	}
	for name := range info.Runtimes {
		e.runtimes = append(e.runtimes, name)
	}
	return e, nil
}

// dockerArch turns the kernel's name of an architecture into that of images.
func dockerArch(s string) string {
	switch s {
	case "x86_64":
		return "amd64"
	case "aarch64":
		return "arm64"
	}
	return s
}

// Engine checks that the engine answers, that this user may use it and that it
// supports our version of its API.
func (c *Checks) Engine() preflight.Check {
	return preflight.Func{Label: "docker", Must: true, Do: func(context.Context) preflight.Result {
		e, err := c.engine()
		if err != nil {
			return c.explain(err)
		}
		return preflight.Result{Status: preflight.OK, Details: fmt.Sprintf("engine %s, API %s (we use %s)", e.version, e.api, c.cfg.Client.ClientVersion())}
	}}
}

// explain returns the Result for an engine that does not answer.
func (c *Checks) explain(err error) preflight.Result {
	host := c.cfg.Client.DaemonHost()
	socket, isSocket := strings.CutPrefix(host, "unix://")
	text := err.Error()
	fail := func(fix, format string, args ...any) preflight.Result {
		return preflight.Result{Status: preflight.Fail, Details: fmt.Sprintf(format, args...), Fix: fix}
	}
	if os.Getenv(client.EnvOverrideAPIVersion) != "" && strings.Contains(text, "version") {
		return fail("unset "+client.EnvOverrideAPIVersion, "%s in the environment sets an API version that the engine does not support: %s", client.EnvOverrideAPIVersion, text)
	}
	if isSocket {
		// The client's error has the same text for several causes.
		conn, dialErr := net.DialTimeout("unix", socket, time.Second)
		if dialErr == nil {
			conn.Close()
		} else if r := explainSocket(socket, dialErr); r.Status != "" {
			return r
		}
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fail("sudo systemctl restart docker", "the Docker engine at %s accepts the connection but does not answer within %s", host, inspectLimit)
	case strings.Contains(text, "is not supported by this client"):
		return fail("update Docker to 19.03 or newer", "the Docker engine is too old: %s", text)
	case client.IsErrConnectionFailed(err):
		return fail("start the engine, or correct DOCKER_HOST", "no Docker engine answers at %s", host)
	}
	return fail("docker info", "the Docker engine at %s: %s", host, text)
}

// explainSocket returns the Result for a socket of the engine that cannot be
// opened, or an empty one if it doesn't know the cause.
func explainSocket(socket string, err error) preflight.Result {
	r := preflight.Result{Status: preflight.Fail}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.Details = fmt.Sprintf("there is no Docker engine: %s does not exist", socket)
		r.Fix = "install Docker (https://docs.docker.com/engine/install/), then: sudo systemctl enable --now docker"
	case errors.Is(err, fs.ErrPermission):
		r.Details = fmt.Sprintf("you may not use the Docker engine: no permission on %s", socket)
		r.Fix = "sudo usermod -aG docker $USER, then log in again"
	case errors.Is(err, syscall.ECONNREFUSED):
		r.Details = fmt.Sprintf("the Docker engine is not running: nothing listens on %s", socket)
		r.Fix = "sudo systemctl start docker"
	default:
		return preflight.Result{}
	}
	return r
}

// unreachable is the result of every other check if the engine does not answer.
// Only the check of the engine explains why.
func unreachable() preflight.Result {
	return preflight.Result{Status: preflight.Skip, Details: "the Docker engine does not answer"}
}

// Space checks that the engine's disk has 20 GiB free, which pulling and unpacking
// an image with an inference engine needs. It is skipped for an engine on another
// machine.
func (c *Checks) Space() preflight.Check {
	return preflight.Func{Label: "docker disk", Do: func(context.Context) preflight.Result {
		e, err := c.engine()
		if err != nil {
			return unreachable()
		}
		if !strings.HasPrefix(c.cfg.Client.DaemonHost(), "unix://") {
			return preflight.Result{Status: preflight.Skip, Details: "the engine is on another machine"}
		}
		if _, err := os.Stat(e.rootDir); errors.Is(err, fs.ErrNotExist) {
			return preflight.Result{Status: preflight.Skip, Details: e.rootDir + " does not exist: the engine's files are elsewhere"}
		}
		return preflight.Space(e.rootDir, minDockerDisk, "docker system prune")
	}}
}

const minDockerDisk = 20 << 30
