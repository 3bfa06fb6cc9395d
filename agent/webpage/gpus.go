package webpage

import (
	"encoding/json"
	"math"
	"math/bits"
	"net/http"
	"strconv"
	"time"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/hwdetect"
)

// chartPoints is how many readings of an hour the charts begin with, at most: one for
// each 5 s. A chart is hardly wider in pixels.
const (
	chartSpan   = time.Hour
	chartPoints = 720
)

// getGPUs answers with the last hour of the GPUs, for the charts:
//
//	{"now": ms, "gpus": [{"index", "model", "memory_gib", "power_w"}],
//	 "reasons": {"bit": "name"}, "jobs": [{"id", "model", "from", "to"}], "readings": [reading]}
//
// Times are in ms since 1970. The to of a job that runs is 0.
func (p *Page) getGPUs(w http.ResponseWriter, _ *http.Request) {
	now := time.Now()
	type gpu struct {
		Index     int     `json:"index"`
		Model     string  `json:"model"`
		MemoryGiB float64 `json:"memory_gib"`
		PowerW    float64 `json:"power_w"`
	}
	type job struct {
		ID    string `json:"id"`
		Model string `json:"model"`
		From  int64  `json:"from"`
		To    int64  `json:"to"`
	}
	answer := struct {
		Now      int64             `json:"now"`
		GPUs     []gpu             `json:"gpus"`
		Reasons  map[string]string `json:"reasons"`
		Jobs     []job             `json:"jobs"`
		Readings []json.RawMessage `json:"readings"`
	}{Now: now.UnixMilli(), GPUs: []gpu{}, Reasons: map[string]string{}, Jobs: []job{}, Readings: []json.RawMessage{}}
	if m := p.a.Machine(); m != nil {
		for _, g := range m.GPUs {
			answer.GPUs = append(answer.GPUs, gpu{g.Index, g.Model, float64(g.MemoryBytes) / (1 << 30), g.PowerLimitW})
		}
	}
	for _, j := range p.a.Jobs() {
		if from := now.Add(-chartSpan); j.StartedAt.IsZero() || !j.EndedAt.IsZero() && j.EndedAt.Before(from) {
			continue
		}
		one := job{ID: j.CommandID, Model: lastPart(j.Model), From: j.StartedAt.UnixMilli()}
		if !j.EndedAt.IsZero() {
			one.To = j.EndedAt.UnixMilli()
		}
		answer.Jobs = append(answer.Jobs, one)
	}
	for _, r := range thin(p.a.GPUHistory(now.Add(-chartSpan)), chartSpan/chartPoints) {
		answer.Readings = append(answer.Readings, appendReading(nil, r))
		for _, g := range r.GPUs {
			for rest := g.Throttle; rest != 0; rest &= rest - 1 {
				bit := bits.TrailingZeros64(rest)
				answer.Reasons[strconv.Itoa(bit)] = hwdetect.ThrottleReasons(1 << bit)[0]
			}
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(answer) // the viewer may be gone
}

// thin returns at most one reading for each width of time: the mean of those in it, with
// all reasons for throttling.
func thin(readings []agent.GPUReading, width time.Duration) (thinned []agent.GPUReading) {
	for len(readings) > 0 {
		n := 1
		for n < len(readings) && readings[n].Time.Sub(readings[0].Time) < width && len(readings[n].GPUs) == len(readings[0].GPUs) {
			n++
		}
		thinned = append(thinned, mean(readings[:n]))
		readings = readings[n:]
	}
	return thinned
}

// mean returns the mean of readings of the same GPUs, at the time of the last one.
func mean(readings []agent.GPUReading) agent.GPUReading {
	last := readings[len(readings)-1]
	if len(readings) == 1 {
		return last
	}
	m := agent.GPUReading{Time: last.Time, GPUs: make([]agent.GPUPoint, len(last.GPUs))}
	for i := range m.GPUs {
		of := func(figure func(agent.GPUPoint) float32) float32 {
			var sum, n float32
			for _, r := range readings {
				if v := figure(r.GPUs[i]); !math.IsNaN(float64(v)) {
					sum, n = sum+v, n+1
				}
			}
			return sum / n // NaN if there was none
		}
		m.GPUs[i] = agent.GPUPoint{
			Index:          last.GPUs[i].Index,
			UtilizationPct: of(func(g agent.GPUPoint) float32 { return g.UtilizationPct }),
			MemoryUsedGiB:  of(func(g agent.GPUPoint) float32 { return g.MemoryUsedGiB }),
			TemperatureC:   of(func(g agent.GPUPoint) float32 { return g.TemperatureC }),
			PowerW:         of(func(g agent.GPUPoint) float32 { return g.PowerW }),
			SMClockMHz:     of(func(g agent.GPUPoint) float32 { return g.SMClockMHz }),
		}
		for _, r := range readings {
			m.GPUs[i].Throttle |= r.GPUs[i].Throttle
		}
	}
	return m
}

// appendReading appends a reading as JSON, [time in ms, GPU, GPU, …]. A GPU is its index,
// utilisation in percent, memory in GiB, temperature in °C, power in W, SM clock in MHz,
// and the bits of its reasons for throttling. What is unknown is null.
func appendReading(b []byte, r agent.GPUReading) []byte {
	b = strconv.AppendInt(append(b, '['), r.Time.UnixMilli(), 10)
	for _, g := range r.GPUs {
		b = strconv.AppendInt(append(b, ",["...), int64(g.Index), 10)
		for _, v := range []float32{g.UtilizationPct, g.MemoryUsedGiB, g.TemperatureC, g.PowerW, g.SMClockMHz} {
			b = append(b, ',')
			if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
				b = append(b, "null"...)
			} else {
				b = strconv.AppendFloat(b, math.Round(f*10)/10, 'f', -1, 64)
			}
		}
		// JavaScript's numbers hold 53 bits; NVML has names for the lowest eleven.
		b = strconv.AppendUint(append(b, ','), g.Throttle&(1<<31-1), 10)
		b = append(b, ']')
	}
	return append(b, ']')
}
