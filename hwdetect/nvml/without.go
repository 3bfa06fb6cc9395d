//go:build !(linux && cgo && nvml)

package nvml

import (
	"context"
	"fmt"

	"github.com/kirizan/kitt-agent/hwdetect"
)

// Available reports whether this build supports NVML: it is for Linux, with cgo
// and the build tag nvml.
const Available = false

// A Source lists and reads GPUs through NVML. In this build its methods return an
// error that matches [hwdetect.ErrAbsent].
type Source struct{}

// New returns a Source.
func New(Config) *Source { return &Source{} }

var errWithout = fmt.Errorf("nvml: built without NVML; build with -tags nvml, for Linux and with cgo: %w", hwdetect.ErrAbsent)

// Inventory returns an error that matches [hwdetect.ErrAbsent].
func (s *Source) Inventory(context.Context) (hwdetect.Inventory, error) {
	return hwdetect.Inventory{}, errWithout
}

// Telemetry returns an error that matches [hwdetect.ErrAbsent].
func (s *Source) Telemetry(context.Context) (hwdetect.Telemetry, error) {
	return hwdetect.Telemetry{}, errWithout
}

// Counters returns an error that matches [hwdetect.ErrAbsent].
func (s *Source) Counters(context.Context) (hwdetect.Counters, error) {
	return hwdetect.Counters{}, errWithout
}

// Processes returns an error that matches [hwdetect.ErrAbsent].
func (s *Source) Processes(context.Context) ([]hwdetect.GPUProcess, error) {
	return nil, errWithout
}

// Close does nothing.
func (s *Source) Close() error { return nil }
