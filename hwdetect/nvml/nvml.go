// Package nvml is the source of GPUs that uses NVIDIA's management library, NVML,
// through go-nvml. It needs Linux, cgo and the build tag nvml:
//
//	go build -tags nvml
//
// In any other build its Source returns an error and no C is compiled, so a
// hwdetect.System uses nvidia-smi instead. [Available] reports which build it is.
//
// The first call loads and initialises the library and keeps it, so that a reading
// costs a few calls into the driver and no new process. If this fails, the next
// call tries again and so finds a driver that was loaded later. After a GPU was
// lost, the library is initialised again and so finds a GPU that came back.
//
// Calls into the driver can block for a minute under load and cannot be
// interrupted. The source makes one at a time, in its own goroutine. If ctx is
// done first, the caller gets an error that names the pending call, and the call
// continues. Other callers wait until it returns or their own contexts are done.
//
// These are faults: an answer that is an error (the GPU is lost, needs a reset, or
// reported an unknown error), a GPU that has disappeared, and a driver that does
// not match its library. "Not supported" and "not permitted" only leave a field
// empty.
package nvml

import (
	"log/slog"

	"github.com/kirizan/kitt-agent/hwdetect"
)

// A Config configures a Source. Its zero value loads the system's NVML.
type Config struct {
	// Library is the path or name of the shared library. Defaults to
	// libnvidia-ml.so.1, then to WSL2's copy of it.
	Library string

	// Logger receives the library's state and XIDs. Defaults to discarding them.
	Logger *slog.Logger
}

var (
	_ hwdetect.Source          = (*Source)(nil)
	_ hwdetect.TelemetryReader = (*Source)(nil)
	_ hwdetect.CounterReader   = (*Source)(nil)
	_ hwdetect.ProcessReader   = (*Source)(nil)
)

// Name returns "nvml".
func (s *Source) Name() string { return "nvml" }
