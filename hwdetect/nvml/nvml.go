// Package nvml is the source of GPUs that asks NVIDIA's management library,
// NVML, through go-nvml. It does so in programs for Linux that are built with cgo
// and the build tag nvml:
//
//	go build -tags nvml
//
// In any other build its Source says so and knows no GPUs, so that nvidia-smi is
// asked instead, and no C is compiled. [Available] tells the two apart.
//
// The library is loaded and initialised at the first call and kept, so that a
// reading costs a few calls into the driver and no new process. It is tried
// again at each call as long as it fails, so that a driver that is installed or
// loaded later is found, and it is initialised anew after a GPU was lost, so
// that one that comes back is found as well.
//
// Calls into the driver can block for a minute under load and cannot be
// interrupted. One is made at a time, in a goroutine of its own; when ctx is
// done first, the caller gets an error that says what is being waited for, and
// the call is left to end by itself. Callers that come meanwhile wait for their
// own deadlines and start nothing beside it.
//
// What counts as sick: an answer that is an error (a GPU that is lost, needs a
// reset, or gave no intelligible answer), a GPU that was there and is gone, and
// a driver that does not fit its library. An answer that something is not
// supported or not permitted only leaves a field empty.
package nvml

import (
	"log/slog"

	"github.com/kirizan/kitt-agent/hwdetect"
)

// A Config says where NVML is. Its zero value finds it where the system does.
type Config struct {
	// Library is the path or name of the shared library. Defaults to
	// libnvidia-ml.so.1, then to WSL2's copy of it.
	Library string

	// Logger gets what happens to the library. Defaults to discarding it.
	Logger *slog.Logger
}

var (
	_ hwdetect.Source    = (*Source)(nil)
	_ hwdetect.Telemeter = (*Source)(nil)
)

// Name returns "nvml".
func (s *Source) Name() string { return "nvml" }
