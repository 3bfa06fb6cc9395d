package hostmonitor

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/kirizan/kitt-agent/hwdetect"
)

const (
	// historyFor is how far back the history of the GPUs goes. maxHistory bounds its
	// readings: one for each second of it.
	historyFor = time.Hour
	maxHistory = int(historyFor / time.Second)

	// leastApart is a second, less what a clock may be late.
	leastApart = 950 * time.Millisecond

	// freshEvery is the least time between two readings that FreshTelemetry takes.
	// After one that took long, costShare times as long as that has to pass: whoever
	// watches takes at most 1 % of the time of whatever answers.
	freshEvery = leastApart
	costShare  = 100
)

// A GPUReading is one reading of all GPUs.
type GPUReading struct {
	Time time.Time
	GPUs []GPUPoint
}

// A GPUPoint is what is kept of one reading of one GPU. NaN stands for a figure that
// could not be read.
type GPUPoint struct {
	Index          int
	UtilizationPct float32 // 0 to 100
	MemoryUsedGiB  float32
	TemperatureC   float32
	PowerW         float32
	SMClockMHz     float32
	Throttle       uint64 // nvmlClocksEventReasons without gpu_idle; see [hwdetect.ThrottleReasons]
}

// A history is the readings of the last hour, the oldest first.
type history struct{ readings []GPUReading }

// add appends what is kept of t, unless there is a reading less than a second older.
func (h *history) add(t hwdetect.Telemetry) {
	if t.Time.IsZero() || len(t.GPUs) == 0 {
		return
	}
	for n := len(h.readings); n > 0 && h.readings[n-1].Time.Sub(t.Time) > time.Minute; n-- { // the clock was set back
		h.readings = h.readings[:n-1]
	}
	if n := len(h.readings); n > 0 && t.Time.Sub(h.readings[n-1].Time) < leastApart {
		return
	}
	reading := GPUReading{Time: t.Time, GPUs: make([]GPUPoint, len(t.GPUs))}
	for i, g := range t.GPUs {
		reading.GPUs[i] = GPUPoint{
			Index:          g.Index,
			UtilizationPct: figure(g.UtilizationPct, 1),
			MemoryUsedGiB:  figure(g.MemoryUsedBytes, 1<<30),
			TemperatureC:   figure(g.TemperatureC, 1),
			PowerW:         figure(g.PowerW, 1),
			SMClockMHz:     figure(g.SMClockMHz, 1),
			Throttle:       hwdetect.ThrottleBits(g.ThrottleReasons),
		}
	}
	old := 0
	for old < len(h.readings) && (t.Time.Sub(h.readings[old].Time) > historyFor || len(h.readings)-old >= maxHistory) {
		old++
	}
	h.readings = append(slices.Delete(h.readings, 0, old), reading)
}

// figure returns *v in units of unit, and NaN if v is nil.
func figure[T int | int64 | float64](v *T, unit float64) float32 {
	if v == nil {
		return float32(math.NaN())
	}
	return float32(float64(*v) / unit)
}

// keepLocked makes t the latest reading of the GPUs. m.mu must be held.
func (m *Monitor) keepLocked(now *Readings, t hwdetect.Telemetry) {
	now.Telemetry = t
	m.history.add(t)
}

// Sampled keeps readings of the GPUs that were taken during a benchmark.
func (m *Monitor) Sampled(at time.Time, gpus []hwdetect.GPUTelemetry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(gpus) > 0 {
		m.sampled = time.Now()
	}
	m.history.add(hwdetect.Telemetry{Time: at, GPUs: gpus})
}

// History returns the readings of the GPUs after since, of the last hour, the oldest
// first. What they hold is never changed.
func (m *Monitor) History(since time.Time) []GPUReading {
	m.mu.Lock()
	defer m.mu.Unlock()
	from, _ := slices.BinarySearchFunc(m.history.readings, since, func(r GPUReading, since time.Time) int {
		if r.Time.After(since) {
			return 1
		}
		return -1
	})
	return slices.Clone(m.history.readings[from:])
}

// FreshTelemetry reads the GPUs now, unless that was done in the last second or would
// take more than 1 % of their time, and returns the latest reading.
func (m *Monitor) FreshTelemetry(ctx context.Context) hwdetect.Telemetry {
	if m.gpus != nil && m.claimReading() {
		began := time.Now()
		t, err := m.gpus.get(ctx, readingTimeout)
		m.mu.Lock()
		defer m.mu.Unlock()
		m.took = time.Since(began)
		if err == nil {
			m.keepLocked(&m.now, t)
		}
		return m.now.Telemetry
	}
	return m.Latest().Telemetry
}

// claimReading reports whether the caller is to read the GPUs.
func (m *Monitor) claimReading() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Since(m.sampled) < 2*leastApart {
		return false // the record of a benchmark has them
	}
	if !m.asked.IsZero() && time.Since(m.asked) < max(freshEvery, costShare*m.took) {
		return false
	}
	m.asked, m.took = time.Now(), 0
	return true
}
