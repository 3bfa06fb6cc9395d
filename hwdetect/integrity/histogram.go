package integrity

import (
	"errors"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/kirizan/kitt-agent/hwdetect"
)

// A ClockSummary describes the clocks of many samples.
type ClockSummary struct {
	Samples   int     `json:"samples"`
	MinMHz    int     `json:"min_mhz"`
	MedianMHz int     `json:"median_mhz"`
	MeanMHz   float64 `json:"mean_mhz"`
	MaxMHz    int     `json:"max_mhz"`
	SpreadPct float64 `json:"spread_pct"` // from the 5th to the 95th percentile, relative to the median
}

// maxClocks is the number of different clocks that are told apart. GPUs have steps
// of 15 MHz.
const maxClocks = 4096

// A histogram counts clocks in MHz.
type histogram struct {
	counts map[int]int
	total  int
}

func (h *histogram) add(mhz *int) {
	if mhz == nil {
		return
	}
	if h.counts == nil {
		h.counts = map[int]int{}
	}
	if _, known := h.counts[*mhz]; !known && len(h.counts) == maxClocks {
		return
	}
	h.counts[*mhz]++
	h.total++
}

// summary returns nil without clocks.
func (h *histogram) summary() *ClockSummary {
	if h.total == 0 {
		return nil
	}
	clocks := slices.Sorted(maps.Keys(h.counts))
	sum := 0
	for _, mhz := range clocks {
		sum += mhz * h.counts[mhz]
	}
	// quantile returns the clock with a share q of the samples below it.
	quantile := func(q float64) int {
		rank := int(q * float64(h.total-1))
		for _, mhz := range clocks {
			if rank -= h.counts[mhz]; rank < 0 {
				return mhz
			}
		}
		return clocks[len(clocks)-1]
	}
	c := &ClockSummary{
		Samples: h.total, MinMHz: clocks[0], MaxMHz: clocks[len(clocks)-1],
		MedianMHz: quantile(0.5), MeanMHz: float64(sum) / float64(h.total),
	}
	if c.MedianMHz > 0 {
		c.SpreadPct = 100 * float64(quantile(0.95)-quantile(0.05)) / float64(c.MedianMHz)
	}
	return c
}

func hasIndex(index int) func(hwdetect.GPUCounters) bool {
	return func(c hwdetect.GPUCounters) bool { return c.Index == index }
}

// noGPU reports whether a gap says that there is no GPU to read.
func noGPU(g Gap) bool { return g.What == "gpu_counters" && strings.HasPrefix(g.Reason, noLibrary) }

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
