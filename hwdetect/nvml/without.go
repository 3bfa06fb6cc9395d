//go:build !(linux && cgo && nvml)

package nvml

import (
	"context"
	"fmt"

	"github.com/kirizan/kitt-agent/hwdetect"
)

// Available reports whether this build can use NVML: whether it is for Linux, with
// cgo and the build tag nvml.
const Available = false

// A Source asks NVML. In this build it knows nothing.
type Source struct{}

// New returns a Source that knows nothing.
func New(Config) *Source { return &Source{} }

var errWithout = fmt.Errorf("nvml: built without NVML; build with -tags nvml, for Linux and with cgo: %w", hwdetect.ErrAbsent)

// Inventory returns an error that matches hwdetect.ErrAbsent.
func (s *Source) Inventory(context.Context) (hwdetect.Inventory, error) {
	return hwdetect.Inventory{}, errWithout
}

// Telemetry returns an error that matches hwdetect.ErrAbsent.
func (s *Source) Telemetry(context.Context) (hwdetect.Telemetry, error) {
	return hwdetect.Telemetry{}, errWithout
}

// Close does nothing.
func (s *Source) Close() error { return nil }
