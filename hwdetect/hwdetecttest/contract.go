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

// TestDetector checks that d keeps the promises of hwdetect.Detector on a machine
// that works. It returns every breach that it finds.
func TestDetector(ctx context.Context, d hwdetect.Detector) error {
	var breaches []error
	breach := func(format string, args ...any) { breaches = append(breaches, fmt.Errorf(format, args...)) }

	m, err := d.Detect(ctx)
	if err != nil {
		return fmt.Errorf("Detect: %w", err)
	}
	if m == nil {
		return errors.New("Detect returned neither a machine nor an error")
	}
	if m.GPUs == nil {
		breach("GPUs is nil, which is not JSON's []")
	}
	environments := []string{"dgx_spark", "dgx", "wsl2", "docker", "container", "native_linux", "native_macos", "native_windows", "unknown"}
	if !slices.Contains(environments, m.EnvironmentType) {
		breach("EnvironmentType %q is none of %q", m.EnvironmentType, environments)
	}
	if m.CPU.Cores > m.CPU.Threads && m.CPU.Threads > 0 {
		breach("there are more cores (%d) than threads (%d)", m.CPU.Cores, m.CPU.Threads)
	}
	if m.MemoryBytes < 0 {
		breach("MemoryBytes is %d", m.MemoryBytes)
	}
	for i, g := range m.GPUs {
		if g.Unified && g.MemoryBytes != m.MemoryBytes {
			breach("GPU %d has unified memory of %d bytes, and the machine %d", i, g.MemoryBytes, m.MemoryBytes)
		}
		if g.MIG != nil && !g.MIG.Enabled && len(g.MIG.Instances) > 0 {
			breach("GPU %d has MIG instances although MIG is off", i)
		}
		for _, peer := range g.NVLinkPeers {
			if peer == g.Index || peer < 0 || peer >= len(m.GPUs) {
				breach("GPU %d has an NVLink to GPU %d", i, peer)
			}
		}
	}
	for _, g := range m.Gaps {
		if g.What == "" || g.Reason == "" {
			breach("a gap lacks its name or its reason: %+v", g)
		}
	}

	// The same machine has the same fingerprint, whoever asks.
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
			breach("the fingerprint was %q, and then %q", m.Fingerprint(), p)
		}
	}

	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := d.Detect(gone); !errors.Is(err, context.Canceled) {
		breach("Detect with a context that is done returned the error %v", err)
	}
	return errors.Join(breaches...)
}

// TestTelemeter checks that t keeps the promises of hwdetect.Telemeter. It
// returns every breach that it finds.
func TestTelemeter(ctx context.Context, t hwdetect.Telemeter) error {
	var breaches []error
	breach := func(format string, args ...any) { breaches = append(breaches, fmt.Errorf(format, args...)) }
	for range 5 {
		start := time.Now()
		r, err := t.Telemetry(ctx)
		if err != nil {
			return fmt.Errorf("Telemetry: %w", err)
		}
		if took := time.Since(start); took > time.Second {
			breach("Telemetry kept its caller waiting for %s", took)
		}
		if r.Time.After(time.Now().Add(time.Second)) {
			breach("a reading is from the future: %s", r.Time)
		}
		if r.Time.IsZero() && len(r.GPUs) > 0 {
			breach("a reading of %d GPUs has no time", len(r.GPUs))
		}
		for _, g := range r.GPUs {
			if u := g.UtilizationPct; u != nil && (*u < 0 || *u > 100) {
				breach("GPU %d is used to %v%%", g.Index, *u)
			}
			if used := g.MemoryUsedBytes; used != nil && *used < 0 {
				breach("GPU %d uses %d bytes", g.Index, *used)
			}
		}
	}
	return errors.Join(breaches...)
}
