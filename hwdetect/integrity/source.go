package integrity

import (
	"context"
	"time"

	"github.com/kirizan/kitt-agent/hwdetect"
)

// A Source reads the machine's state. Its methods are safe for concurrent use. What
// cannot be read is nil and no error. Both methods return soon after ctx is done.
type Source interface {
	// State returns the counters and settings. It reads all that it can before ctx
	// is done and names the rest in State.Gaps. An error means that nothing could
	// be read.
	State(ctx context.Context) (State, error)

	// Sample returns current readings. It is called once per second while a
	// benchmark runs, so it must be cheap and must not wait for a GPU. The error
	// is the reason why the GPUs have no reading; the rest of the Sample is then
	// valid all the same.
	Sample(ctx context.Context) (Sample, error)
}

// A Sample is one set of readings. A nil field could not be read.
type Sample struct {
	Time   time.Time      // of the real-time clock
	Uptime *time.Duration // at the same moment; it shows whether the clock was set
	Pressure

	// GPUs are the latest readings, and GPUTime is when they were taken. They are used
	// if they are newer than those of the sample before. A zero GPUTime is now.
	GPUs    []hwdetect.GPUTelemetry
	GPUTime time.Time
}
