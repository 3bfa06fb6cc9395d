package integrity

import (
	"fmt"
	"time"

	"github.com/kirizan/kitt-agent/hwdetect"
)

// A pair is one GPU's counters at the start and at the end.
type pair struct{ start, end *hwdetect.GPUCounters }

// eachGPU returns a figure for each GPU with counters at the start or at the end.
func eachGPU(e *Evidence, figure func(pair) Figure) (figures []Figure) {
	if e.End == nil {
		return nil
	}
	find := func(gpus []hwdetect.GPUCounters, g hwdetect.GPUCounters) *hwdetect.GPUCounters {
		for i := range gpus {
			if gpus[i].Index == g.Index {
				return &gpus[i]
			}
		}
		return nil
	}
	for i := range e.Start.GPUs {
		start := &e.Start.GPUs[i]
		f := Figure{}
		switch end := find(e.End.GPUs, *start); {
		case end == nil:
			f.Unknown = "the GPU could not be read at the end"
		case start.UUID != end.UUID && start.UUID != "" && end.UUID != "":
			f.Unknown = "the GPU is not the one of the start"
		case !e.SameBoot():
			f.Unknown = "the machine was restarted during the run"
		default:
			f = figure(pair{start, end})
		}
		f.GPU = new(start.Index)
		figures = append(figures, f)
	}
	for _, end := range e.End.GPUs {
		if find(e.Start.GPUs, end) == nil {
			figures = append(figures, Figure{GPU: new(end.Index), Unknown: "the GPU could not be read at the start"})
		}
	}
	return figures
}

// delta returns end - start, or why it is unknown.
func delta[T int64 | float64 | time.Duration](start, end *T) (T, string) {
	switch {
	case start == nil || end == nil:
		return 0, "the counter could not be read"
	case *end < *start:
		return 0, "the counter was reset during the run"
	}
	return *end - *start, ""
}

// throttled returns the figures of a throttle counter, in percent of the busy time.
func throttled(what string, counter func(*hwdetect.GPUCounters) *time.Duration) func(*Evidence) []Figure {
	return func(e *Evidence) []Figure {
		return eachGPU(e, func(p pair) Figure {
			d, unknown := delta(counter(p.start), counter(p.end))
			busy := e.busyTime(p.start.Index)
			if unknown == "" && busy <= 0 {
				if d == 0 {
					return Figure{}
				}
				unknown = "the GPU was not busy"
			}
			if unknown != "" {
				return Figure{Unknown: unknown}
			}
			share := min(float64(d)/float64(busy), 1)
			f := Figure{Value: 100 * share, Share: &share}
			f.Text = fmt.Sprintf("%s for %.3g%% of %.0f s", what, f.Value, busy.Seconds())
			return f
		})
	}
}

// busyTime returns the longest time that a GPU can have been busy: the time of busy
// samples, and all time without samples. A share of it is never too large.
func (e *Evidence) busyTime(gpu int) time.Duration {
	all := e.Duration()
	if s := e.Samples.gpu(gpu); s != nil {
		return min(max(all-s.idle, 0), all)
	}
	return all
}

// increased returns the figures of a counter that should not advance.
func increased(what string, counter func(*hwdetect.GPUCounters) *int64) func(*Evidence) []Figure {
	return func(e *Evidence) []Figure {
		return eachGPU(e, func(p pair) Figure {
			n, unknown := delta(counter(p.start), counter(p.end))
			return Figure{Value: float64(n), Unknown: unknown, Text: fmt.Sprintf("%d %s", n, what)}
		})
	}
}

// gpuCounterRules judge counters that advance.
func gpuCounterRules() []Rule {
	cool := "improve the cooling, or wait until the GPUs are cool before the run"
	return []Rule{
		{Code: "hw_thermal", Unit: "%", Limit: invalidAbove(0.1), Remedy: cool,
			Why:     "the hardware halves the clocks or more; 0.1% of the time is what one short event takes",
			Figures: throttled("hardware thermal slowdown", func(c *hwdetect.GPUCounters) *time.Duration { return c.HWThermal })},
		{Code: "hw_power_brake", Unit: "%", Limit: invalidAbove(0.1), Remedy: "check the power supply and its cables",
			Why:     "the power supply asked for lower clocks; as hw_thermal",
			Figures: throttled("hardware power brake", func(c *hwdetect.GPUCounters) *time.Duration { return c.HWPowerBrake })},
		{Code: "sw_thermal", Unit: "%", Limit: limits(1, 5), Remedy: cool,
			Why:     "the driver lowers the clocks step by step, and briefly so on many loaded cards",
			Figures: throttled("thermal slowdown by the driver", func(c *hwdetect.GPUCounters) *time.Duration { return c.SWThermal })},
		{Code: "ecc_uncorrected", Unit: "count", Limit: invalidAbove(0), Remedy: "run NVIDIA's diagnostics, and replace the GPU if it happens again",
			Why:     "memory that lost its content may have changed what was computed",
			Figures: increased("uncorrected memory errors", func(c *hwdetect.GPUCounters) *int64 { return c.ECCUncorrected })},
	}
}
