package integrity

import (
	"slices"
	"time"

	"github.com/kirizan/kitt-agent/hwdetect"
)

const (
	busyPct   = 50.0            // utilisation from which a sample is busy
	maxStep   = 3 * time.Second // longer times between two samples are a gap
	maxGaps   = 100             // gaps that are named
	maxXIDs   = 32              // different XIDs of one GPU
	maxReason = 24              // different throttle reasons of one GPU
)

// A Summary is what the samples of a run show. It has the same size for a run of any
// length.
type Summary struct {
	Count     int           `json:"count"`
	Covered   time.Duration `json:"covered_ns"`             // time between samples that follow each other closely
	ClockStep time.Duration `json:"clock_step_ns"`          // the largest by which the clock was set
	Gaps      []Gap         `json:"gaps,omitempty"`         // times without samples, at most 100
	MoreGaps  int           `json:"more_gaps,omitempty"`    // further ones
	Damaged   int           `json:"damaged_rows,omitempty"` // rows of the file that are not samples
	GPUs      []GPUSummary  `json:"gpus"`

	last    *Sample   // the one before
	lastGPU time.Time // of the last sample with GPUs
}

// A GPUSummary is what the samples show of one GPU. A nil field could not be read.
type GPUSummary struct {
	Index            int            `json:"index"`
	Samples          int            `json:"samples"`
	Busy             int            `json:"busy"` // samples with a utilisation of at least 50%
	FirstBusy        *time.Time     `json:"first_busy,omitempty"`
	LastBusy         *time.Time     `json:"last_busy,omitempty"`
	SMClock          *ClockSummary  `json:"sm_clock,omitempty"`     // of busy samples
	MemoryClock      *ClockSummary  `json:"memory_clock,omitempty"` // of busy samples
	MinTemperatureC  *float64       `json:"min_temperature_c,omitempty"`
	MaxTemperatureC  *float64       `json:"max_temperature_c,omitempty"`
	MaxPowerW        *float64       `json:"max_power_w,omitempty"`
	EnergyJ          float64        `json:"sampled_energy_j"`           // the power's integral over the covered time
	ThrottleReasons  map[string]int `json:"throttle_reasons,omitempty"` // samples with each reason
	MinBusyPCIeGen   *int           `json:"min_busy_pcie_gen,omitempty"`
	MinBusyPCIeWidth *int           `json:"min_busy_pcie_width,omitempty"`
	XIDs             []int64        `json:"xids,omitempty"` // that appeared during the run

	idle      time.Duration // covered time in which it was not busy
	lastXID   *int64
	lastPower *float64
	lastBusy  *bool
	lastTime  time.Time
	sm, mem   histogram
}

// gpu returns the summary of the GPU with that index, or nil.
func (s *Summary) gpu(index int) *GPUSummary {
	for i := range s.GPUs {
		if s.GPUs[i].Index == index {
			return &s.GPUs[i]
		}
	}
	return nil
}

// Add adds the next sample.
func (s *Summary) Add(sample Sample) {
	step := time.Duration(0)
	if s.last != nil {
		step = s.advance(sample)
	}
	s.Count++
	for _, g := range sample.GPUs {
		sum := s.gpu(g.Index)
		if sum == nil {
			s.GPUs = append(s.GPUs, GPUSummary{Index: g.Index})
			sum = &s.GPUs[len(s.GPUs)-1]
		}
		if s.last == nil || !sum.lastTime.Equal(s.last.Time) {
			sum.lastPower, sum.lastBusy = nil, nil
		}
		sum.add(g, sample.Time, step)
	}
	if len(sample.GPUs) > 0 {
		if !s.lastGPU.IsZero() && sample.Time.Sub(s.lastGPU) > maxStep && step > 0 {
			s.addGap(gapGPUSamples, "the GPUs gave no reading", s.lastGPU, sample.Time)
		}
		s.lastGPU = sample.Time
	}
	before := sample
	before.GPUs = nil
	s.last = &before
}

// advance returns the time since the last sample, or 0 if there is a gap.
func (s *Summary) advance(sample Sample) time.Duration {
	wall := sample.Time.Sub(s.last.Time)
	step := wall
	if a, b := s.last.Uptime, sample.Uptime; a != nil && b != nil && *b >= *a {
		step = *b - *a
		s.ClockStep = max(s.ClockStep, (wall - step).Abs())
	}
	if step > 0 && step <= maxStep {
		s.Covered += step
		return step
	}
	if step != 0 {
		s.addGap(gapSamples, "no samples", s.last.Time, sample.Time)
	}
	return 0
}

func (s *Summary) addGap(what, reason string, from, to time.Time) {
	if len(s.Gaps) == maxGaps {
		s.MoreGaps++
		return
	}
	s.Gaps = append(s.Gaps, Gap{What: what, Reason: reason, From: &from, To: &to})
}

// add adds one reading; step is the time since the last sample, 0 after a gap.
func (g *GPUSummary) add(r hwdetect.GPUTelemetry, at time.Time, step time.Duration) {
	g.Samples++
	if g.lastPower != nil && r.PowerW != nil {
		g.EnergyJ += (*g.lastPower + *r.PowerW) / 2 * step.Seconds()
	}
	var busy *bool
	if r.UtilizationPct != nil {
		busy = new(*r.UtilizationPct >= busyPct)
		if !*busy && g.lastBusy != nil && !*g.lastBusy {
			g.idle += step
		}
	}
	g.lastPower, g.lastBusy, g.lastTime = r.PowerW, busy, at
	widen(&g.MinTemperatureC, &g.MaxTemperatureC, r.TemperatureC)
	widen(new(*float64), &g.MaxPowerW, r.PowerW)
	for _, name := range r.ThrottleReasons {
		if g.ThrottleReasons == nil {
			g.ThrottleReasons = map[string]int{}
		}
		if _, known := g.ThrottleReasons[name]; known || len(g.ThrottleReasons) < maxReason {
			g.ThrottleReasons[name]++
		}
	}
	g.addXID(r.LastXID)
	if busy != nil && *busy {
		g.addBusy(r, at)
	}
}

// addXID notes an XID that differs from the one before. One that is there in the
// first sample was there before the run.
func (g *GPUSummary) addXID(xid *int64) {
	changed := xid != nil && (g.lastXID == nil || *g.lastXID != *xid)
	if changed && g.Samples > 1 && !slices.Contains(g.XIDs, *xid) && len(g.XIDs) < maxXIDs {
		g.XIDs = append(g.XIDs, *xid)
	}
	if xid != nil {
		g.lastXID = xid
	}
}

func (g *GPUSummary) addBusy(r hwdetect.GPUTelemetry, at time.Time) {
	g.Busy++
	if g.FirstBusy == nil {
		g.FirstBusy = new(at)
	}
	g.LastBusy = new(at)
	g.sm.add(r.SMClockMHz)
	g.mem.add(r.MemoryClockMHz)
	g.SMClock, g.MemoryClock = nil, nil // Finish computes them
	lower(&g.MinBusyPCIeGen, r.PCIeGen)
	lower(&g.MinBusyPCIeWidth, r.PCIeWidth)
}

// Finish computes what needs all samples. More may be added after it.
func (s *Summary) Finish() {
	if s.GPUs == nil {
		s.GPUs = []GPUSummary{} // in JSON a list without elements, not null
	}
	for i := range s.GPUs {
		g := &s.GPUs[i]
		g.SMClock, g.MemoryClock = g.sm.summary(), g.mem.summary()
	}
	slices.SortFunc(s.GPUs, func(a, b GPUSummary) int { return a.Index - b.Index })
}

func widen(low, high **float64, v *float64) {
	if v == nil {
		return
	}
	if *low == nil || *v < **low {
		*low = new(*v)
	}
	if *high == nil || *v > **high {
		*high = new(*v)
	}
}

func lower(low **int, v *int) {
	if v != nil && (*low == nil || *v < **low) {
		*low = new(*v)
	}
}

// Summarize returns the summary of a sample file. Without a file it is that of no
// samples. It needs the same memory for a file of any length.
func Summarize(path string) (Summary, error) {
	var s Summary
	bad, err := ReadSamples(path, func(sample Sample) error {
		s.Add(sample)
		return nil
	})
	s.Damaged = bad
	s.Finish()
	return s, ignoreMissing(err)
}
