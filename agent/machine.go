package agent

import (
	"context"
	"time"

	"github.com/kirizan/kitt-agent/agent/internal/hostmonitor"
	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/hwdetect"
)

// A GPUReading is one reading of all GPUs.
type GPUReading = hostmonitor.GPUReading

// A GPUPoint is what is kept of one reading of one GPU.
type GPUPoint = hostmonitor.GPUPoint

// Machine returns the description of the machine, as it was last read; nil before
// there is one. It must not be changed.
func (a *Agent) Machine() *hwdetect.Machine { return a.host.Description() }

// Engines returns the engines on the machine, as they were last read.
func (a *Agent) Engines() []heartbeat.Engine { return hostmonitor.OnWire(a.host.Latest().Engines) }

// GPUCounters returns the counters of the GPUs, as they were last read, within the last
// 30 s unless the GPUs do not answer. Its zero value has none, as where they cannot be
// read. What it holds must not be changed.
func (a *Agent) GPUCounters() hwdetect.Counters { return a.host.Latest().Counters }

// GPUHistory returns the readings of the GPUs after since, of the last hour, the oldest
// first: one every 30 s, and one a second while a benchmark was recorded (see
// Config.Integrity) or ReadGPUs was called. What they hold must not be changed.
func (a *Agent) GPUHistory(since time.Time) []GPUReading { return a.host.History(since) }

// ReadGPUs reads the GPUs for a viewer. It does so at most once a
// second, whoever calls it, and takes at most 1 % of the time of whatever answers:
// otherwise it returns the latest reading.
func (a *Agent) ReadGPUs(ctx context.Context) hwdetect.Telemetry { return a.host.FreshTelemetry(ctx) }
