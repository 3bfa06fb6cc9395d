package hwdetecttest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kirizan/kitt-agent/hwdetect"
)

// TestCounterReader checks that c satisfies the contract of
// [hwdetect.CounterReader] on a machine that has counters. It returns every
// violation it finds, joined.
func TestCounterReader(ctx context.Context, c hwdetect.CounterReader) error {
	first, err := c.Counters(ctx)
	if err != nil {
		return fmt.Errorf("Counters: %w", err)
	}
	violations := checkCounters(first)
	violation := func(format string, args ...any) { violations = append(violations, fmt.Errorf(format, args...)) }
	again, err := c.Counters(ctx)
	if err != nil || len(again.GPUs) != len(first.GPUs) {
		violation("the second reading has %d GPUs instead of %d: %w", len(again.GPUs), len(first.GPUs), err)
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := c.Counters(done); !errors.Is(err, context.Canceled) {
		violation("Counters with a context that is done returned the error %v", err)
	}
	return errors.Join(violations...)
}

func checkCounters(c hwdetect.Counters) (violations []error) {
	violation := func(format string, args ...any) { violations = append(violations, fmt.Errorf(format, args...)) }
	if c.Time.IsZero() || c.Time.After(time.Now().Add(time.Second)) {
		violation("the time of the counters is %s", c.Time)
	}
	seen := map[int]bool{}
	for _, g := range c.GPUs {
		if seen[g.Index] {
			violation("GPU %d is listed twice", g.Index)
		}
		seen[g.Index] = true
		for _, d := range []*time.Duration{g.PowerCap, g.SyncBoost, g.SWThermal, g.HWThermal, g.HWPowerBrake} {
			if d != nil && *d < 0 {
				violation("GPU %d has a negative throttled time of %s", g.Index, *d)
			}
		}
		for _, n := range []*int64{g.ECCUncorrected, g.ECCCorrected, g.PCIeReplays, g.NVLinkErrors} {
			if n != nil && *n < 0 {
				violation("GPU %d has a negative counter of %d", g.Index, *n)
			}
		}
	}
	return violations
}

// TestProcessReader checks that p satisfies the contract of
// [hwdetect.ProcessReader] on a machine whose processes can be listed. It returns
// every violation it finds, joined.
func TestProcessReader(ctx context.Context, p hwdetect.ProcessReader) error {
	var violations []error
	violation := func(format string, args ...any) { violations = append(violations, fmt.Errorf(format, args...)) }
	processes, err := p.Processes(ctx)
	if err != nil {
		return fmt.Errorf("Processes: %w", err)
	}
	type key struct{ pid, gpu int }
	seen := map[key]bool{}
	for _, each := range processes {
		if each.PID <= 0 {
			violation("a process has the PID %d", each.PID)
		}
		if seen[key{each.PID, each.GPU}] {
			violation("process %d is listed twice for GPU %d", each.PID, each.GPU)
		}
		seen[key{each.PID, each.GPU}] = true
		if sm := each.SMPct; sm != nil && (*sm < 0 || *sm > 100) {
			violation("process %d uses %v%% of the SMs", each.PID, *sm)
		}
		if used := each.MemoryBytes; used != nil && *used < 0 {
			violation("process %d uses %d bytes", each.PID, *used)
		}
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := p.Processes(done); !errors.Is(err, context.Canceled) {
		violation("Processes with a context that is done returned the error %v", err)
	}
	return errors.Join(violations...)
}
