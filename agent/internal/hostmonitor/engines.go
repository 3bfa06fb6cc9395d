package hostmonitor

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/kirizan/kitt-agent/heartbeat"
)

// nativeEngine is an inference engine that may be installed on the machine
// itself, in addition to those that come in containers.
type nativeEngine struct {
	name   string
	binary string // looked up in PATH
	port   int    // where it listens unless told otherwise
}

// nativeEngines are those that the protocol knows, with its default ports.
var nativeEngines = []nativeEngine{
	{name: "ollama", binary: "ollama", port: 11434},
	{name: "llama_cpp", binary: "llama-server", port: 8081},
	{name: "vllm", binary: "vllm", port: 8000},
}

// DetectEngines returns the state of all native engines. It starts no process
// and speaks to none: what runs is read from /proc.
func DetectEngines(context.Context) []heartbeat.Engine {
	running := processes()
	engines := make([]heartbeat.Engine, 0, len(nativeEngines))
	for _, n := range nativeEngines {
		e := heartbeat.Engine{Engine: n.name, Port: n.port}
		if path, err := exec.LookPath(n.binary); err == nil {
			e.Installed = true
			e.BinaryPath = path
		}
		if pid, ok := running[n.binary]; ok {
			e.Running, e.PID = true, pid
		}
		engines = append(engines, e)
	}
	return engines
}

// processes returns the lowest process id for each program name, from
// /proc/<pid>/comm (proc(5)); nothing on systems without /proc.
func processes() map[string]int {
	found := map[string]int{}
	comms, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return found
	}
	for _, path := range comms {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it ended meanwhile
		}
		name := strings.TrimSpace(string(text))
		if before, ok := found[name]; !ok || pid < before {
			found[name] = pid
		}
	}
	return found
}
