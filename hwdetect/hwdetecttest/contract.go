package hwdetecttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/hwdetect"
)

// TestDetector checks that d satisfies the contract of [hwdetect.Detector] on a
// healthy machine. It returns every violation it finds, joined.
func TestDetector(ctx context.Context, d hwdetect.Detector) error {
	var violations []error
	violation := func(format string, args ...any) { violations = append(violations, fmt.Errorf(format, args...)) }

	m, err := d.Detect(ctx)
	if err != nil {
		return fmt.Errorf("Detect: %w", err)
	}
	if m == nil {
		return errors.New("Detect returned neither a machine nor an error")
	}
	if m.GPUs == nil {
		violation("GPUs is nil, which is not [] in JSON")
	}
	environments := []string{"dgx_spark", "dgx", "wsl2", "docker", "container", "native_linux", "native_macos", "native_windows", "unknown"}
	if !slices.Contains(environments, m.EnvironmentType) {
		violation("EnvironmentType %q is not one of %q", m.EnvironmentType, environments)
	}
	if m.CPU.Cores > m.CPU.Threads && m.CPU.Threads > 0 {
		violation("there are more cores (%d) than threads (%d)", m.CPU.Cores, m.CPU.Threads)
	}
	if m.MemoryBytes < 0 {
		violation("MemoryBytes is %d", m.MemoryBytes)
	}
	for i, g := range m.GPUs {
		if g.Unified && g.MemoryBytes != m.MemoryBytes {
			violation("GPU %d has unified memory of %d bytes, and the machine %d", i, g.MemoryBytes, m.MemoryBytes)
		}
		if g.MIG != nil && !g.MIG.Enabled && len(g.MIG.Instances) > 0 {
			violation("GPU %d has MIG instances although MIG is off", i)
		}
		for _, peer := range g.NVLinkPeers {
			if peer == g.Index || peer < 0 || peer >= len(m.GPUs) {
				violation("GPU %d has an NVLink to GPU %d", i, peer)
			}
		}
	}
	for _, g := range m.Gaps {
		if g.What == "" || g.Reason == "" {
			violation("a gap has no name or no reason: %+v", g)
		}
	}

	// Concurrent calls return the same fingerprint.
	prints := make([]string, 4)
	var callers sync.WaitGroup
	for i := range prints {
		callers.Go(func() {
			if again, err := d.Detect(ctx); err == nil {
				prints[i] = again.Fingerprint()
			}
		})
	}
	callers.Wait()
	for _, p := range prints {
		if p != m.Fingerprint() {
			violation("the fingerprint was %q, and then %q", m.Fingerprint(), p)
		}
	}

	done, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := d.Detect(done); !errors.Is(err, context.Canceled) {
		violation("Detect with a context that is done returned the error %v", err)
	}
	return errors.Join(violations...)
}

// TestTelemetryReader checks that t satisfies the contract of
// [hwdetect.TelemetryReader]. It returns every violation it finds, joined.
func TestTelemetryReader(ctx context.Context, t hwdetect.TelemetryReader) error {
	var violations []error
	violation := func(format string, args ...any) { violations = append(violations, fmt.Errorf(format, args...)) }
	for range 5 {
		start := time.Now()
		r, err := t.Telemetry(ctx)
		if err != nil {
			return fmt.Errorf("Telemetry: %w", err)
		}
		if took := time.Since(start); took > time.Second {
			violation("Telemetry returned only after %s", took)
		}
		if r.Time.After(time.Now().Add(time.Second)) {
			violation("the time of a reading is in the future: %s", r.Time)
		}
		if r.Time.IsZero() && len(r.GPUs) > 0 {
			violation("a reading of %d GPUs has no time", len(r.GPUs))
		}
		for _, g := range r.GPUs {
			if u := g.UtilizationPct; u != nil && (*u < 0 || *u > 100) {
				violation("the utilisation of GPU %d is %v%%", g.Index, *u)
			}
			if used := g.MemoryUsedBytes; used != nil && *used < 0 {
				violation("GPU %d uses %d bytes", g.Index, *used)
			}
		}
	}
	return errors.Join(violations...)
}
