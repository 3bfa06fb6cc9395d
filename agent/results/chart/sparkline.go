package chart

import (
	"fmt"
	"math"
	"strings"

	"github.com/kirizan/kitt-agent/agent/results"
)

// A Sparkline is one quantity over a run, as text.
type Sparkline struct {
	Label string // such as power
	Text  string // one character for each part of the run; a blank where there are no samples
	Range string // lowest and highest value, with the unit
}

var blocks = []rune("▁▂▃▄▅▆▇█")

// Sparklines returns the slowest GPU's SM clock, the power of all GPUs, the hottest GPU's
// temperature and when a GPU was slowed down, in at most width characters. The error
// matches [ErrNoSamples] if there is nothing to draw.
func Sparklines(r *results.Run, width int) ([]Sparkline, error) {
	t, err := newTimeline(r, max(width, 1))
	if err != nil {
		return nil, err
	}
	lines := []Sparkline{
		t.sparkline("SM clock", "MHz", clockMHz, func(a, b float64) float64 { return min(a, b) }),
		t.sparkline("power", "W", powerW, func(a, b float64) float64 { return a + b }),
		t.sparkline("temperature", "°C", temperatureC, func(a, b float64) float64 { return max(a, b) }),
	}
	return append(lines, t.slowdownLine()), nil
}

// sparkline draws a quantity of all GPUs, which join makes one value of.
func (t *timeline) sparkline(label, unit string, quantity int, join func(a, b float64) float64) Sparkline {
	var values []float64
	for i := range t.bins() {
		value := math.NaN()
		for _, g := range t.gpus {
			if b := &g.bins[quantity][i]; b.n > 0 {
				if math.IsNaN(value) {
					value = b.mean()
				} else {
					value = join(value, b.mean())
				}
			}
		}
		values = append(values, value)
	}
	low, high := math.Inf(1), math.Inf(-1)
	for _, v := range values {
		if !math.IsNaN(v) {
			low, high = min(low, v), max(high, v)
		}
	}
	if low > high {
		return Sparkline{Label: label, Range: "not known"}
	}
	var text strings.Builder
	for _, v := range values {
		switch {
		case math.IsNaN(v):
			text.WriteByte(' ')
		case high == low:
			text.WriteRune(blocks[len(blocks)/2])
		default:
			text.WriteRune(blocks[int((v-low)/(high-low)*float64(len(blocks)-1)+0.5)])
		}
	}
	return Sparkline{Label: label, Text: text.String(), Range: fmt.Sprintf("%.0f to %.0f %s", low, high, unit)}
}

// slowdownLine shows the worst slowdown of each part of the run.
func (t *timeline) slowdownLine() Sparkline {
	marks := []byte("pTH")
	var text strings.Builder
	var seen []string
	for i := range t.bins() {
		mark := byte(' ')
		if t.sampled(i) {
			mark = '.'
		}
		for k, s := range slowdowns {
			for _, g := range t.gpus {
				if g.reasons[i]&s.bits != 0 {
					mark = marks[k]
				}
			}
		}
		text.WriteByte(mark)
	}
	for k, s := range slowdowns {
		if strings.IndexByte(text.String(), marks[k]) >= 0 {
			seen = append(seen, fmt.Sprintf("%c: %s", marks[k], s.name))
		}
	}
	if seen == nil {
		seen = []string{"none"}
	}
	return Sparkline{Label: "slowed down", Text: text.String(), Range: strings.Join(seen, ", ")}
}

// sampled reports whether there are samples in a bin.
func (t *timeline) sampled(i int) bool {
	for _, g := range t.gpus {
		for q := range g.bins {
			if g.bins[q][i].n > 0 {
				return true
			}
		}
	}
	return false
}

// bins returns how many bins there are.
func (t *timeline) bins() int {
	if len(t.gpus) == 0 {
		return 0
	}
	return len(t.gpus[0].reasons)
}
