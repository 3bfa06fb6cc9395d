package standard

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/docker"
	"github.com/kirizan/kitt-agent/runner/process"
)

// A Kind says how benchmarks run.
type Kind string

// The kinds.
const (
	Auto    Kind = "auto"    // in a container, and through the local kitt where there is no image, or no Docker at all
	Docker  Kind = "docker"  // in a container
	Process Kind = "process" // through the local kitt
)

// A Runner runs benchmarks in containers or through the local kitt command. A job
// whose run one of them began never goes to the other, also if the Kind has changed
// since.
type Runner struct {
	*runner.Fallback
	containers *docker.Runner // nil without Docker
}

// NewRunner returns the runner that cfg describes, whose Storage and Detector are not
// used. It calls no container engine.
func NewRunner(cfg Config) (*Runner, error) {
	cfg = cfg.withDefaults()
	if cfg.Kind != Auto && cfg.Kind != Docker && cfg.Kind != Process {
		return nil, fmt.Errorf("standard: Kind is %q, not auto, docker or process", cfg.Kind)
	}
	local := process.New(cfg.Process)
	containers, err := docker.New(cfg.Docker)
	switch {
	case err != nil && cfg.Kind == Process:
		return &Runner{Fallback: runner.NewFallback(local)}, nil // the machine needs no Docker
	case err != nil:
		return nil, fmt.Errorf("standard: %w", err)
	case cfg.Kind == Process:
		return &Runner{runner.NewFallback(local).Former(containers), containers}, nil
	case cfg.Kind == Docker:
		return &Runner{runner.NewFallback(containers).Former(local), containers}, nil
	}
	return &Runner{runner.NewFallback(containers, local), containers}, nil
}

// Close closes the connections to the container engine. Benchmarks keep running.
func (r *Runner) Close() error {
	if r.containers == nil {
		return nil
	}
	return r.containers.Close()
}

// serviceVars are the variables by which systemd and a service know each other. A
// benchmark that speaks sd_notify(3) itself would speak for this program.
var serviceVars = []string{
	"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM", "INVOCATION_ID", "SYSTEMD_EXEC_PID",
	"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE",
}

// ownEnv returns this program's environment without what is not for a benchmark:
// the agent's tokens, and the variables of a systemd service.
func ownEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return strings.HasPrefix(name, "KITT_") || slices.Contains(serviceVars, name)
	})
}
