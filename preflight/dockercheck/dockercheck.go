// Package dockercheck has the preflight checks that ask the Docker engine:
// whether this user may talk to it, whether it answers in a version that we
// speak, whether it can give a container the GPUs, whether KITT's image is there
// for this machine's architecture, whether it has room, and whether control
// groups and user namespaces are set up so that containers keep their GPUs.
//
// It links the moby client. [New] opens one; [Checks.All] returns the checks.
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

// A Config says which engine and which images. Its zero value is the engine that
// the environment names (DOCKER_HOST and the like), KITT's default image and
// NVIDIA's.
type Config struct {
	// Client talks to the engine. Defaults to one that New makes from the
	// environment, and that Close closes.
	Client *client.Client

	// Image is the image that benchmarks run in. Defaults to kitt:latest.
	Image string

	// CUDAImage is started to see whether containers get GPUs. Where it is not
	// here but Image is, that one serves. Defaults to DefaultCUDAImage.
	CUDAImage string

	// Progress is told how the pull of CUDAImage goes, a line every second at
	// most, while other checks may report their results. Defaults to nothing.
	Progress func(line string)

	// PullLimit is how long a pull may take, PullSilence how long it may make no
	// progress. Default to 10 minutes and 30 s.
	PullLimit, PullSilence time.Duration

	// Root is a file tree with /dev, /etc and /proc for what only the machine
	// itself knows. Defaults to the machine's own.
	Root fs.FS
}

// DefaultImage is the image that benchmarks run in unless another is set.
const DefaultImage = "kitt:latest"

// DefaultCUDAImage is a small image by NVIDIA. What GPUs it sees does not depend
// on its version.
const DefaultCUDAImage = "nvidia/cuda:12.4.1-base-ubuntu22.04"

// Checks are the checks of one engine. Its methods are safe for concurrent use.
type Checks struct {
	cfg    Config
	own    bool // whether Close closes the client
	engine func() (engine, error)
}

// An engine is what the engine says of itself.
type engine struct {
	api, version, arch, rootDir string
	cgroupDriver, cgroupVersion string
	security                    []string
	runtimes                    []string
	cdi                         bool // whether it has devices by CDI
}

// New returns the checks. It does not talk to the engine yet; the error is for an
// environment that cannot be understood.
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
		c.cfg.Client, c.own = cli, true
	}
	c.engine = sync.OnceValues(c.ask)
	return c, nil
}

// Close closes the client, if New made it.
func (c *Checks) Close() error {
	if c.own {
		return c.cfg.Client.Close()
	}
	return nil
}

// All returns all checks of this package.
func (c *Checks) All() []preflight.Check {
	return []preflight.Check{c.Engine(), c.GPU(), c.Image(), c.Space(), c.ControlGroups()}
}

// askLimit is the time that the engine gets to describe itself, which a healthy
// one does in some milliseconds; one whose storage is stuck never does.
const askLimit = 8 * time.Second

// ask asks the engine what it is.
func (c *Checks) ask() (engine, error) {
	ctx, cancel := context.WithTimeout(context.Background(), askLimit)
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
	e := engine{
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

// dockerArch turns the kernel's word for an architecture into that of images.
func dockerArch(s string) string {
	switch s {
	case "x86_64":
		return "amd64"
	case "aarch64":
		return "arm64"
	}
	return s
}

// Engine looks whether the engine answers, whether this user may talk to it and
// whether it speaks a version of the API that we do.
func (c *Checks) Engine() preflight.Check {
	return preflight.Func{Label: "docker", Must: true, Do: func(context.Context) preflight.Result {
		e, err := c.engine()
		if err != nil {
			return c.explain(err)
		}
		return preflight.Result{Status: preflight.OK, Details: fmt.Sprintf("engine %s, API %s (we use %s)", e.version, e.api, c.cfg.Client.ClientVersion())}
	}}
}

// explain says why the engine does not answer.
func (c *Checks) explain(err error) preflight.Result {
	host := c.cfg.Client.DaemonHost()
	socket, isSocket := strings.CutPrefix(host, "unix://")
	text := err.Error()
	fail := func(fix, format string, args ...any) preflight.Result {
		return preflight.Result{Status: preflight.Fail, Details: fmt.Sprintf(format, args...), Fix: fix}
	}
	if os.Getenv(client.EnvOverrideAPIVersion) != "" && strings.Contains(text, "version") {
		return fail("unset "+client.EnvOverrideAPIVersion, "%s in the environment pins a version of the API that the engine does not speak: %s", client.EnvOverrideAPIVersion, text)
	}
	if isSocket {
		// The client's words hide which of several reasons it is.
		conn, dialErr := net.DialTimeout("unix", socket, time.Second)
		if dialErr == nil {
			conn.Close()
		} else if r := explainSocket(socket, dialErr); r.Status != "" {
			return r
		}
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fail("sudo systemctl restart docker", "the Docker engine at %s takes the connection but does not answer within %s", host, askLimit)
	case strings.Contains(text, "is not supported by this client"):
		return fail("update Docker to 19.03 or newer", "the Docker engine is too old: %s", text)
	case client.IsErrConnectionFailed(err):
		return fail("start the engine, or mend DOCKER_HOST", "no Docker engine answers at %s", host)
	}
	return fail("docker info", "the Docker engine at %s: %s", host, text)
}

// explainSocket says why the engine's socket cannot be opened, or returns no
// result for a reason that it does not know.
func explainSocket(socket string, err error) preflight.Result {
	r := preflight.Result{Status: preflight.Fail}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.Details = fmt.Sprintf("there is no Docker engine: %s does not exist", socket)
		r.Fix = "install Docker (https://docs.docker.com/engine/install/), then: sudo systemctl enable --now docker"
	case errors.Is(err, fs.ErrPermission):
		r.Details = fmt.Sprintf("you may not talk to the Docker engine: no permission on %s", socket)
		r.Fix = "sudo usermod -aG docker $USER, then log in again"
	case errors.Is(err, syscall.ECONNREFUSED):
		r.Details = fmt.Sprintf("the Docker engine is not running: nobody listens on %s", socket)
		r.Fix = "sudo systemctl start docker"
	default:
		return preflight.Result{}
	}
	return r
}

// unreachable is the result of every other check while the engine does not
// answer: what it is, the check of the engine says.
func unreachable() preflight.Result {
	return preflight.Result{Status: preflight.Skip, Details: "the Docker engine does not answer"}
}

// Space looks whether the engine's own disk has 20 GiB free, which an image with
// an inference engine needs to be pulled and unpacked. It can only tell for an
// engine on this machine.
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
			return preflight.Result{Status: preflight.Skip, Details: e.rootDir + " is not here: the engine's files are elsewhere"}
		}
		return preflight.Space(e.rootDir, minDockerDisk, "docker system prune")
	}}
}

const minDockerDisk = 20 << 30
