package hwdetect

import (
	"context"
	"errors"
	"time"
)

// Static is the Detector and TelemetryReader of a simulated machine. Its methods
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
