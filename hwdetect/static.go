package hwdetect

import (
	"context"
	"errors"
	"time"
)

// Static is the Detector and Telemeter of a machine that is only thought of. It
// is for agents that simulate their work.
type Static struct {
	// Machine is what Detect returns. It must not be changed afterwards.
	Machine *Machine

	// Load says how busy the GPUs are, from 0 to 1. Defaults to idle.
	Load func() float64
}

var (
	_ Detector  = Static{}
	_ Telemeter = Static{}
)

// Detect returns s.Machine.
func (s Static) Detect(ctx context.Context) (*Machine, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if s.Machine == nil {
		return nil, errors.New("hwdetect: a Static without a Machine")
	}
	return s.Machine, nil
}

// Telemetry returns the reading that the machine would give under s.Load.
func (s Static) Telemetry(ctx context.Context) (Telemetry, error) {
	if ctx.Err() != nil {
		return Telemetry{}, context.Cause(ctx)
	}
	if s.Machine == nil {
		return Telemetry{}, errors.New("hwdetect: a Static without a Machine")
	}
	var load float64
	if s.Load != nil {
		load = s.Load()
	}
	return s.Machine.Reading(load, time.Now()), nil
}

// Reading returns what the machine's GPUs would show under a load from 0 (idle)
// to 1 (a benchmark that uses all of each): an inference server takes nine
// tenths of the memory, whatever it then does with it.
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
