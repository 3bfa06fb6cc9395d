package hostmonitor

import (
	"context"
	"time"

	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/runner/engine"
)

// engineWait is how long a caller waits for engines to be looked at now.
const engineWait = 2 * time.Second

// Engines looks at the machine's engines now, and returns what was known before if that
// takes too long.
func (m *Monitor) Engines(ctx context.Context) []engine.Status {
	found, err := m.engines.get(ctx, engineWait)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		m.now.Engines = found
	}
	return m.now.Engines
}

// OnWire returns engines as the protocol has them: a list, even if it is empty.
func OnWire(engines []engine.Status) []heartbeat.Engine {
	all := make([]heartbeat.Engine, len(engines))
	for i, e := range engines {
		all[i] = heartbeat.Engine{
			Engine: e.Name, Installed: e.Installed, BinaryPath: e.Path, Version: e.Version,
			Running: e.Running, PID: e.PID, Port: e.Port,
		}
	}
	return all
}
