package hwdetect

import (
	"context"
	"errors"
	"time"
)

// Static is the Detector, TelemetryReader, CounterReader and ProcessReader of a
// simulated machine, which is healthy and has no foreign processes. Its methods
// are safe for concurrent use.
type Static struct {
	// Machine is what Detect returns. It must not be changed afterwards.
	Machine *Machine

	// Load returns how busy the GPUs are, from 0 to 1. It must be safe for
	// concurrent use. Defaults to idle.
	Load func() float64
}

var (
	_ Detector        = Static{}
	_ TelemetryReader = Static{}
	_ CounterReader   = Static{}
	_ ProcessReader   = Static{}
)

// Detect returns s.Machine, or an error if it is nil or ctx is done.
func (s Static) Detect(ctx context.Context) (*Machine, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if s.Machine == nil {
		return nil, errors.New("hwdetect: Static has no Machine")
	}
	return s.Machine, nil
}

// Telemetry returns the [Machine.Reading] under s.Load, or an error if s.Machine
// is nil or ctx is done.
func (s Static) Telemetry(ctx context.Context) (Telemetry, error) {
	if ctx.Err() != nil {
		return Telemetry{}, context.Cause(ctx)
	}
	if s.Machine == nil {
		return Telemetry{}, errors.New("hwdetect: Static has no Machine")
	}
	var load float64
	if s.Load != nil {
		load = s.Load()
	}
	return s.Machine.Reading(load, time.Now()), nil
}

// Counters returns [Machine.Counters], or an error if s.Machine is nil or ctx is
// done.
func (s Static) Counters(ctx context.Context) (Counters, error) {
	if ctx.Err() != nil {
		return Counters{}, context.Cause(ctx)
	}
	if s.Machine == nil {
		return Counters{}, errors.New("hwdetect: Static has no Machine")
	}
	return s.Machine.Counters(time.Now()), nil
}

// Processes returns none, or an error if ctx is done.
func (s Static) Processes(ctx context.Context) ([]GPUProcess, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return nil, nil
}

// Counters returns the counters of a simulated healthy machine, with the time at.
// They never advance. Energy and links are unknown.
func (m *Machine) Counters(at time.Time) Counters {
	c := Counters{Time: at, GPUs: make([]GPUCounters, len(m.GPUs))}
	for i, g := range m.GPUs {
		var none time.Duration
		var zero int64
		yes, no := true, false
		c.GPUs[i] = GPUCounters{
			Index: g.Index, UUID: g.UUID,
			PowerCap: &none, SyncBoost: &none, SWThermal: &none, HWThermal: &none, HWPowerBrake: &none,
			Persistence: &yes, ComputeMode: "Default", ECCUncorrected: &zero, RemapPending: &no, RemapFailed: &no,
		}
		if limit := g.PowerLimitW; limit > 0 {
			c.GPUs[i].PowerLimitW, c.GPUs[i].DefaultPowerLimitW = &limit, &limit
		}
	}
	return c
}

// Reading returns simulated telemetry with the time at, for a load from 0 (idle)
// to 1 (all GPUs fully used). Memory use is 0.5 % when idle and 90 % otherwise,
// because an inference server reserves its memory at the start.
func (m *Machine) Reading(load float64, at time.Time) Telemetry {
	load = min(max(load, 0), 1)
	t := Telemetry{Time: at, GPUs: make([]GPUTelemetry, len(m.GPUs))}
	for i, g := range m.GPUs {
		used := int64(float64(g.MemoryBytes) * 0.005)
		if load > 0 {
			used = int64(float64(g.MemoryBytes) * 0.9)
		}
		limit := g.PowerLimitW
		if limit == 0 {
			limit = 100
		}
		utilization, temperature, power := 100*load, 32+40*load, limit*(0.12+0.78*load)
		errors := int64(0)
		t.GPUs[i] = GPUTelemetry{
			Index:           g.Index,
			UtilizationPct:  &utilization,
			MemoryUsedBytes: &used,
			TemperatureC:    &temperature,
			PowerW:          &power,
			ECCUncorrected:  &errors,
		}
	}
	return t
}
