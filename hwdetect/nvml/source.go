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

// Available reports whether this build can use NVML: whether it is for Linux, with
// cgo and the build tag nvml.
const Available = true

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// A Source asks NVML. Its methods are safe for concurrent use.
type Source struct {
	cfg     Config
	session session // held by whoever has turn
	turn    chan struct{}

	mu     sync.Mutex
	since  time.Time // when the call at work began
	what   string    // and what it is for
	closed bool
}

// New returns a Source. It loads nothing yet.
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

// NewFromLibrary returns a Source that asks lib, such as one of go-nvml's mock
// servers, in place of the system's NVML. It does not exist in builds without
// cgo.
func NewFromLibrary(cfg Config, lib nvml.Interface) *Source { return newSource(cfg, lib) }

func newSource(cfg Config, libraries ...nvml.Interface) *Source {
	cfg = cfg.withDefaults()
	return &Source{cfg: cfg, session: session{libraries: libraries, log: cfg.Logger}, turn: make(chan struct{}, 1)}
}

// Inventory describes the GPUs. Beside the GPUs there may be gaps, such as for
// one that is lost; the error matches hwdetect.ErrAbsent if there is no NVML, no
// loaded driver or no permission to use it.
func (s *Source) Inventory(ctx context.Context) (hwdetect.Inventory, error) {
	return call(ctx, s, "describing the GPUs", s.session.inventory)
}

// Telemetry reads the GPUs. The error matches hwdetect.ErrAbsent as that of
// Inventory does; GPUs that were seen before and cannot be used any more make
// for a reading with Sick set, and for no error.
func (s *Source) Telemetry(ctx context.Context) (hwdetect.Telemetry, error) {
	return call(ctx, s, "reading the GPUs", s.session.telemetry)
}

// Close lets go of the library. It waits for a call that is at work, at most for
// a second, since one that is stuck in the driver cannot be ended.
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

// start calls f, once no other call is at work, in a goroutine of its own.
func start[T any](ctx context.Context, s *Source, what string, f func() (T, error)) (T, error) {
	var none T
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return none, s.stuck(ctx)
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
		if closed { // Close may have given up waiting for this call
			s.session.end()
		}
		<-s.turn
		done <- answer{v, err}
	}()
	select {
	case a := <-done:
		return a.value, a.err
	case <-ctx.Done():
		return none, s.stuck(ctx)
	}
}

// stuck says what is being waited for.
func (s *Source) stuck(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Errorf("nvml: no answer for %s while %s: %w", time.Since(s.since).Round(time.Millisecond), s.what, context.Cause(ctx))
}
