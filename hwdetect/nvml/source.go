//go:build linux && cgo && nvml

package nvml

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/kirizan/kitt-agent/hwdetect"
)

// Available reports whether this build supports NVML: it is for Linux, with cgo
// and the build tag nvml.
const Available = true

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// A Source lists and reads GPUs through NVML. Its methods are safe for concurrent
// use.
type Source struct {
	cfg     Config
	session session       // guarded by busy
	busy    chan struct{} // a semaphore: one call into NVML at a time

	mu     sync.Mutex // guards the fields below
	since  time.Time  // when the running call began
	what   string     // what the running call does
	closed bool
}

// New returns a Source. It loads nothing.
func New(cfg Config) *Source {
	names := []string{"libnvidia-ml.so.1", "/usr/lib/wsl/lib/libnvidia-ml.so.1"}
	if cfg.Library != "" {
		names = []string{cfg.Library}
	}
	var libraries []nvml.Interface
	for _, name := range names {
		libraries = append(libraries, nvml.New(nvml.WithLibraryPath(name)))
	}
	return newSource(cfg, libraries...)
}

// NewFromLibrary returns a Source that uses lib, such as one of go-nvml's mock
// servers, instead of the system's NVML. It exists only in builds where
// [Available] is true.
func NewFromLibrary(cfg Config, lib nvml.Interface) *Source { return newSource(cfg, lib) }

func newSource(cfg Config, libraries ...nvml.Interface) *Source {
	cfg = cfg.withDefaults()
	return &Source{cfg: cfg, session: session{libraries: libraries, log: cfg.Logger}, busy: make(chan struct{}, 1)}
}

// Inventory lists the GPUs, with gaps such as for a GPU that is lost. The error
// matches [hwdetect.ErrAbsent] if there is no NVML, no loaded driver or no
// permission to use it.
func (s *Source) Inventory(ctx context.Context) (hwdetect.Inventory, error) {
	return call(ctx, s, "describing the GPUs", s.session.inventory)
}

// Telemetry reads the GPUs. The error matches [hwdetect.ErrAbsent] in the same
// cases as that of Inventory. If GPUs that were seen before cannot be used any
// more, it returns a reading with Fault set and no error.
func (s *Source) Telemetry(ctx context.Context) (hwdetect.Telemetry, error) {
	return call(ctx, s, "reading the GPUs", s.session.telemetry)
}

// Counters reads the counters and settings of the GPUs. Errors are as for Inventory.
func (s *Source) Counters(ctx context.Context) (hwdetect.Counters, error) {
	return call(ctx, s, "reading the GPUs' counters", s.session.counters)
}

// Processes lists the processes on the GPUs, and how busy each was since the call
// before. Errors are as for Inventory.
func (s *Source) Processes(ctx context.Context) ([]hwdetect.GPUProcess, error) {
	return call(ctx, s, "listing the GPUs' processes", s.session.processes)
}

// Close unloads the library. It waits for a running call, at most for a second,
// since a call that hangs in the driver cannot be interrupted. It then returns an
// error, and the library is unloaded when the call returns. It may be called
// twice.
func (s *Source) Close() error {
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	s.mu.Unlock()
	if closed {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err := start(ctx, s, "shutting down", func() (struct{}, error) {
		s.session.end()
		return struct{}{}, nil
	})
	return err
}

var errClosed = errors.New("nvml: closed")

func call[T any](ctx context.Context, s *Source, what string, f func() (T, error)) (T, error) {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		var none T
		return none, errClosed
	}
	return start(ctx, s, what, f)
}

// start waits until no other call runs, and calls f in its own goroutine.
func start[T any](ctx context.Context, s *Source, what string, f func() (T, error)) (T, error) {
	var none T
	select {
	case s.busy <- struct{}{}:
	case <-ctx.Done():
		return none, s.hangError(ctx)
	}
	s.mu.Lock()
	s.since, s.what = time.Now(), what
	s.mu.Unlock()

	type answer struct {
		value T
		err   error
	}
	done := make(chan answer, 1)
	go func() {
		v, err := f()
		s.mu.Lock()
		closed := s.closed
		s.mu.Unlock()
		if closed { // Close may have stopped waiting for this call
			s.session.end()
		}
		<-s.busy
		done <- answer{v, err}
	}()
	select {
	case a := <-done:
		return a.value, a.err
	case <-ctx.Done():
		return none, s.hangError(ctx)
	}
}

// hangError returns an error that names the running call and how long it takes.
func (s *Source) hangError(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Errorf("nvml: no answer for %s while %s: %w", time.Since(s.since).Round(time.Millisecond), s.what, context.Cause(ctx))
}
