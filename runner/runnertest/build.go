package runnertest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Programs that tests build.
const (
	fakeKitt  = "github.com/kirizan/kitt-agent/runner/runnertest/fakekitt"
	fakeLlama = "github.com/kirizan/kitt-agent/runner/runnertest/fakellama"
	supervise = "github.com/kirizan/kitt-agent/runner/supervisor/kitt-supervise"
	proxy     = "github.com/kirizan/kitt-agent/runner/docker/socketproxy/kitt-socket-proxy"
)

// BuildFakeKitt builds the program that plays the kitt command into dir, by the
// name of kitt, and returns its path. It uses the go command on the PATH and
// links the program statically, so that it also runs in an empty container. The
// name of the model steers it; its package comment has the words.
func BuildFakeKitt(dir string) (string, error) { return build(dir, "kitt", fakeKitt) }

// BuildFakeLlamaServer builds the program that plays llama.cpp's server into dir, by the
// name of llama-server, as BuildFakeKitt does, and returns its path.
func BuildFakeLlamaServer(dir string) (string, error) { return build(dir, "llama-server", fakeLlama) }

// BuildSupervisor builds the program in front of a benchmark in a container into
// dir, as BuildFakeKitt does, and returns its path. Tests that run many programs
// with a docker.Runner name it in their Config.Supervisor, so that not each of
// them has it built.
func BuildSupervisor(dir string) (string, error) { return build(dir, "kitt-supervise", supervise) }

// BuildSocketProxy builds the program between a benchmark and the container engine into
// dir, as BuildSupervisor does, for docker.Config.SocketProxy.
func BuildSocketProxy(dir string) (string, error) { return build(dir, "kitt-socket-proxy", proxy) }

func build(dir, name, source string) (string, error) {
	path := filepath.Join(dir, name)
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w: %s", source, err, out)
	}
	return path, nil
}
