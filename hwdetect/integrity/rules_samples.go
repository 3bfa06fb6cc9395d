package integrity

import (
	"fmt"
	"slices"
)

// MinBusySamples is the fewest busy samples by which clocks are judged.
const MinBusySamples = 30

// XIDs that the job itself causes, such as an invalid memory access, and those that
// mean that the GPU or its links failed. From NVIDIA's "XID Errors".
var (
	xidOfJob    = []int64{13, 31, 43, 45}
	xidOfFailed = []int64{48, 63, 64, 74, 79, 94, 95, 119, 120}
)

// gpuSampleRules judge what only samples show.
func gpuSampleRules() []Rule {
	return []Rule{
		{Code: "sm_clock_spread", Unit: "%", Limit: warnAbove(5), Remedy: "lock the clocks with nvidia-smi --lock-gpu-clocks, or wait for cool GPUs",
			Why:     "the middle 90% of the SM clocks under load, relative to their median; results vary with them",
			Figures: eachSampled(clockSpread)},
		{Code: "link_width", Unit: "count", Limit: limits(0, 0), Remedy: "seat the card again, and check the slot and riser",
			Why:     "lanes that are missing under load; several GPUs exchange data over them",
			Figures: eachSampled(linkWidth)},
		{Code: "xid", Unit: "count", Limit: limits(0, 0), Remedy: "look up the XID in NVIDIA's list, and run its diagnostics",
			Why:     "the driver reported an error of the GPU",
			Figures: xids},
		{Code: "foreign_process", Unit: "%", Limit: limits(-1, 1), Remedy: "end the other process, or run when the GPU is free",
			Why:     "1% of the SMs is less than what a run varies by; mere memory use can still slow down a run",
			Figures: foreign},
		{Code: "energy", Unit: "%", Limit: Limit{}, Info: true,
			Why:     "the counter and the samples' integral must agree within 5%, or neither is to be trusted",
			Figures: eachSampled(energy)},
	}
}

// eachSampled returns a figure for each GPU that has samples.
func eachSampled(figure func(*Evidence, *GPUSummary) Figure) func(*Evidence) []Figure {
	return func(e *Evidence) (figures []Figure) {
		for i := range e.Samples.GPUs {
			g := &e.Samples.GPUs[i]
			f := figure(e, g)
			f.GPU = new(g.Index)
			figures = append(figures, f)
		}
		return figures
	}
}

func clockSpread(_ *Evidence, g *GPUSummary) Figure {
	switch {
	case g.SMClock == nil && g.Busy > 0:
		return Figure{Unknown: "the SM clock could not be read"}
	case g.SMClock == nil || g.SMClock.Samples < MinBusySamples:
		return Figure{Unknown: fmt.Sprintf("too short to judge: fewer than %d samples under load", MinBusySamples)}
	}
	c := g.SMClock
	return Figure{
		Value: c.SpreadPct, First: g.FirstBusy, Last: g.LastBusy,
		Text: fmt.Sprintf("SM clocks under load spread by %.3g%% around %d MHz", c.SpreadPct, c.MedianMHz),
	}
}

func linkWidth(e *Evidence, g *GPUSummary) Figure {
	at := slices.IndexFunc(e.Start.GPUs, hasIndex(g.Index))
	if at < 0 || e.Start.GPUs[at].MaxPCIeWidth == nil || g.MinBusyPCIeWidth == nil {
		return Figure{Unknown: "the link under load could not be read"}
	}
	most := *e.Start.GPUs[at].MaxPCIeWidth
	f := Figure{
		Value: float64(most - *g.MinBusyPCIeWidth),
		Text:  fmt.Sprintf("PCIe link with %d of %d lanes under load", *g.MinBusyPCIeWidth, most),
	}
	if len(e.Samples.GPUs) < 2 {
		f.AtMost = Warning
	}
	return f
}

// xids returns a figure for each GPU that anything is known of.
func xids(e *Evidence) (figures []Figure) {
	var seen []int
	for _, g := range e.Start.GPUs {
		seen = append(seen, g.Index)
	}
	for _, g := range e.Samples.GPUs {
		if !slices.Contains(seen, g.Index) {
			seen = append(seen, g.Index)
		}
	}
	for _, gpu := range seen {
		f := xidFigure(e.xidsOf(gpu))
		f.GPU = new(gpu)
		figures = append(figures, f)
	}
	return figures
}

func xidFigure(codes []int64) Figure {
	if len(codes) == 0 {
		return Figure{}
	}
	f := Figure{Value: float64(len(codes)), AtMost: Warning, Text: fmt.Sprintf("XID %d", codes[0])}
	for _, xid := range codes {
		if slices.Contains(xidOfFailed, xid) {
			return Figure{Value: f.Value, Text: fmt.Sprintf("XID %d: the GPU failed", xid)}
		}
		if slices.Contains(xidOfJob, xid) {
			f.Text = fmt.Sprintf("XID %d, which the benchmark itself caused", xid)
		}
	}
	return f
}

func foreign(e *Evidence) []Figure {
	if !e.ForeignKnown {
		if e.hasGPUs() {
			return []Figure{{Unknown: "the processes on the GPUs could not be listed"}}
		}
		return nil
	}
	figures := []Figure{}
	for _, p := range e.Foreign {
		f := Figure{GPU: new(p.GPU), First: new(p.First), Last: new(p.Last)}
		f.Text = fmt.Sprintf("process %d (%s of %s) held memory", p.PID, orUnknown(p.Command), orUnknown(p.Owner))
		if p.MaxSMPct != nil && *p.MaxSMPct > 0 {
			f.Value = *p.MaxSMPct
			f.Text = fmt.Sprintf("process %d (%s of %s) used up to %.3g%% of the SMs", p.PID, orUnknown(p.Command), orUnknown(p.Owner), f.Value)
		}
		figures = append(figures, f)
	}
	if len(figures) == 0 {
		figures = append(figures, Figure{Value: -1})
	}
	return figures
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

// energy compares the counter with the samples. It never makes a run worse.
func energy(e *Evidence, g *GPUSummary) Figure {
	const tolerance = 0.05
	var counted float64
	unknown := "the energy counter could not be read"
	for _, f := range eachGPU(e, func(p pair) Figure {
		d, why := delta(p.start.EnergyJ, p.end.EnergyJ)
		return Figure{Value: d, Unknown: why}
	}) {
		if *f.GPU == g.Index {
			counted, unknown = f.Value, f.Unknown
		}
	}
	switch {
	case unknown != "":
		return Figure{Unknown: unknown}
	case e.Samples.Covered.Seconds() < 0.98*e.Duration().Seconds() || g.EnergyJ <= 0:
		return Figure{Unknown: "too few samples of the power"}
	case counted < (1-tolerance)*g.EnergyJ || counted > (1+tolerance)*g.EnergyJ:
		return Figure{Unknown: fmt.Sprintf("the counter says %.4g J, and the samples %.4g J", counted, g.EnergyJ)}
	}
	return Figure{}
}
