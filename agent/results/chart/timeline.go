package chart

import (
	"errors"
	"io/fs"
	"math"
	"slices"
	"time"

	"github.com/kirizan/kitt-agent/agent/results"
	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/hwdetect/integrity"
)

// Limits of a picture.
const (
	maxGPUs     = 16
	maxBars     = 40                  // neighbours and foreign processes
	maxSpan     = 90 * 24 * time.Hour // of a run
	shortestBin = time.Second         // samples come once per second
	maxDrawn    = 1e9                 // larger values are not drawn
	gapAbove    = 3 * time.Second     // times without samples from which a line breaks
)

// ErrNoSamples is matched by the error for a run of whose GPUs there are no samples.
var ErrNoSamples = errors.New("the run has no samples of GPUs")

// A bin holds what was sampled in a short time.
type bin struct {
	n           int
	min, max    float64
	sum         float64
	first, last time.Time
}

func (b *bin) add(v float64, at time.Time) {
	if !(math.Abs(v) < maxDrawn) { // NaN too
		return
	}
	if b.n == 0 {
		b.min, b.max, b.first = v, v, at
	}
	b.n, b.min, b.max, b.sum, b.last = b.n+1, min(b.min, v), max(b.max, v), b.sum+v, at
}

func (b *bin) mean() float64 { return b.sum / float64(b.n) }

// The quantities of a GPU that are drawn.
const (
	clockMHz = iota
	powerW
	temperatureC
	quantities
)

// A line is one GPU over time.
type line struct {
	index   int
	bins    [quantities][]bin
	reasons []uint64 // bits of the clock event reasons that were seen in each bin
}

// A timeline is a run over time.
type timeline struct {
	from, to time.Time
	step     time.Duration // of one bin
	gpus     []*line       // by index
	omitted  int           // GPUs that are not drawn
}

// newTimeline reads the samples of a run into at most bins bins.
func newTimeline(r *results.Run, bins int) (*timeline, error) {
	t := &timeline{}
	if r.Report != nil {
		t.include(r.Report.Start.Time)
		if r.Report.End != nil {
			t.include(r.Report.End.Time)
		}
	}
	sampled := false
	err := eachSample(r, func(s integrity.Sample) {
		t.include(s.Time)
		sampled = sampled || len(s.GPUs) > 0
	})
	if err != nil {
		return nil, err
	}
	if !sampled {
		return nil, ErrNoSamples
	}
	if t.to.Sub(t.from) > maxSpan {
		return nil, errors.New("the samples span more than 90 days")
	}
	t.step = max(t.to.Sub(t.from)/time.Duration(bins)+1, shortestBin)
	n := int(t.to.Sub(t.from)/t.step) + 1
	err = eachSample(r, func(s integrity.Sample) {
		at := int(s.Time.Sub(t.from) / t.step)
		for _, g := range s.GPUs {
			if l := t.line(g.Index, n); l != nil {
				l.add(g, s.Time, at)
			}
		}
	})
	slices.SortFunc(t.gpus, func(a, b *line) int { return a.index - b.index })
	return t, err
}

func eachSample(r *results.Run, do func(integrity.Sample)) error {
	_, err := r.Samples(func(s integrity.Sample) error { do(s); return nil })
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNoSamples
	}
	return err
}

// include widens the time that is shown.
func (t *timeline) include(at time.Time) {
	if t.from.IsZero() || at.Before(t.from) {
		t.from = at
	}
	if at.After(t.to) {
		t.to = at
	}
}

// line returns the line of the GPU with that index; nil if there are too many.
func (t *timeline) line(index, n int) *line {
	for _, l := range t.gpus {
		if l.index == index {
			return l
		}
	}
	if len(t.gpus) == maxGPUs {
		t.omitted = max(t.omitted, index-maxGPUs+1)
		return nil
	}
	l := &line{index: index, reasons: make([]uint64, n)}
	for q := range l.bins {
		l.bins[q] = make([]bin, n)
	}
	t.gpus = append(t.gpus, l)
	return l
}

func (l *line) add(g hwdetect.GPUTelemetry, at time.Time, i int) {
	if g.SMClockMHz != nil {
		l.bins[clockMHz][i].add(float64(*g.SMClockMHz), at)
	}
	if g.PowerW != nil {
		l.bins[powerW][i].add(*g.PowerW, at)
	}
	if g.TemperatureC != nil {
		l.bins[temperatureC][i].add(*g.TemperatureC, at)
	}
	l.reasons[i] |= hwdetect.ThrottleBits(g.ThrottleReasons)
}

// A slowdown is a cause for which clocks were reduced.
type slowdown struct {
	name, color string
	bits        uint64
}

// slowdowns are the causes that are drawn, the worst last, so that it covers the others.
// A lower clock that was set on purpose is not a slowdown.
var slowdowns = []slowdown{
	{"power cap", "#9db4c8", hwdetect.ThrottleBits([]string{"sw_power_cap", "sync_boost", "board_limit", "reliability"})},
	{"thermal slowdown by the driver", "#f0a030", hwdetect.ThrottleBits([]string{"sw_thermal_slowdown"})},
	{"hardware slowdown", "#d02020", hwdetect.ThrottleBits([]string{"hw_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown"})},
}

// A span is a time with a name.
type span struct {
	name     string
	from, to time.Time
}

// phases returns when the run loaded, measured and ended, by the load of its GPUs.
func phases(r *results.Run, t *timeline) []span {
	if r.Report == nil {
		return nil
	}
	var first, last time.Time
	for _, g := range r.Report.Samples.GPUs {
		if g.FirstBusy == nil || g.LastBusy == nil {
			continue
		}
		if first.IsZero() || g.FirstBusy.Before(first) {
			first = *g.FirstBusy
		}
		if g.LastBusy.After(last) {
			last = *g.LastBusy
		}
	}
	if first.IsZero() {
		return nil
	}
	return []span{{"load", t.from, first}, {"measure", first, last}, {"tail", last, t.to}}
}
