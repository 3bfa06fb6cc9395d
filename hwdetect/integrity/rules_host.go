package integrity

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// hostRules judge the machine around the GPUs.
func hostRules() []Rule {
	return []Rule{
		{Code: "steal", Unit: "%", Limit: limits(1, 5), Remedy: "use a machine whose CPUs are not shared with other guests",
			Why:     "CPU time that the hypervisor gave to other guests; engines feed their GPUs from one or two CPUs",
			Figures: host1(steal)},
		{Code: "memory_pressure", Unit: "%", Limit: warnAbove(0.5), Remedy: "give the benchmark more memory, or end other programs",
			Why:     "the time in which all tasks waited for memory",
			Figures: host1(pressure("all tasks waited for memory", func(p Pressure) *time.Duration { return p.MemoryFull }))},
		{Code: "cpu_pressure", Unit: "%", Limit: Limit{}, Info: true, Remedy: "end other programs, or give the machine more CPUs",
			Why:     "the time in which a task waited for a CPU; a benchmark with many threads causes it itself",
			Figures: host1(pressure("a task waited for a CPU", func(p Pressure) *time.Duration { return p.CPUSome }))},
		{Code: "io_pressure", Unit: "%", Limit: Limit{}, Info: true, Remedy: "end other programs that use the disk",
			Why:     "the time in which a task waited for a disk; loading a model causes it too",
			Figures: host1(pressure("a task waited for a disk", func(p Pressure) *time.Duration { return p.IOSome }))},
		{Code: "swap_in", Unit: "count", Limit: warnAbove(0), Remedy: "give the benchmark more memory, or turn swap off",
			Why:     "a page that is read from swap takes a thousand times as long as one in memory",
			Figures: host1(swapIn)},
		{Code: "governor", Unit: "count", Limit: Limit{}, Info: true, Remedy: "cpupower frequency-set --governor performance",
			Why:     "other governors can lower the CPUs' clocks; many machines are measured with them all the same",
			Figures: host1(governor)},
		{Code: "clock_step", Unit: "s", Limit: warnAbove(0.5), Remedy: "have chrony or systemd-timesyncd set the clock before the run",
			Why:     "times that the benchmark takes from the real-time clock are wrong by as much",
			Figures: host1(clockStep)},
		{Code: "neighbours", Unit: "%", Limit: Limit{}, Info: true, Remedy: "set max_concurrent_jobs to 1",
			Why:     "other benchmarks of this agent, as a share of the time; they were asked for",
			Figures: neighbours},
		{Code: "samples_missing", Unit: "%", Limit: Limit{}, Info: true,
			Why:     "charts and clocks have gaps; counters do not",
			Figures: host1(missing)},
	}
}

// host1 returns the one figure of the host, once there is an end.
func host1(figure func(*Evidence) Figure) func(*Evidence) []Figure {
	return func(e *Evidence) []Figure {
		switch {
		case e.End == nil:
			return nil
		case !e.SameBoot():
			return []Figure{{Unknown: "the machine was restarted during the run"}}
		}
		return []Figure{figure(e)}
	}
}

func steal(e *Evidence) Figure {
	stolen, why := delta(e.Start.Host.StealTicks, e.End.Host.StealTicks)
	all, why2 := delta(e.Start.Host.CPUTicks, e.End.Host.CPUTicks)
	switch {
	case why+why2 != "":
		return Figure{Unknown: "the CPU time could not be read"}
	case all <= 0:
		return Figure{Unknown: "too short to judge"}
	}
	share := min(float64(stolen)/float64(all), 1)
	return Figure{Value: 100 * share, Share: &share, Text: fmt.Sprintf("the hypervisor withheld %.3g%% of the CPU time", 100*share)}
}

// pressure returns the figure of a total of /proc/pressure, in percent of the time. Less
// than a thousandth is none.
func pressure(what string, total func(Pressure) *time.Duration) func(*Evidence) Figure {
	return func(e *Evidence) Figure {
		waited, why := delta(total(e.Start.Host.Pressure), total(e.End.Host.Pressure))
		switch {
		case why != "":
			return Figure{Unknown: "/proc/pressure could not be read"}
		case e.Duration() <= 0:
			return Figure{Unknown: "too short to judge"}
		}
		share := min(float64(waited)/float64(e.Duration()), 1)
		if share < 0.001 {
			share = 0
		}
		return Figure{Value: 100 * share, Share: &share, Text: fmt.Sprintf("%s for %.3g%% of %.0f s", what, 100*share, e.Duration().Seconds())}
	}
}

func swapIn(e *Evidence) Figure {
	n, why := delta(e.Start.Host.SwapInPages, e.End.Host.SwapInPages)
	if why != "" {
		return Figure{Unknown: "the swap counter could not be read"}
	}
	return Figure{Value: float64(n), Text: fmt.Sprintf("%d pages were read from swap", n)}
}

func governor(e *Evidence) Figure {
	names := slices.Compact(slices.Sorted(slices.Values(slices.Concat(e.Start.Host.Governors, e.End.Host.Governors))))
	if len(names) == 0 {
		return Figure{Unknown: "the CPUs' governor could not be read"}
	}
	f := Figure{Text: "CPU governor " + strings.Join(names, ", ")}
	if len(names) != 1 || names[0] != "performance" {
		f.Value = 1
	}
	return f
}

func clockStep(e *Evidence) Figure {
	a, b := e.Start.Host.Uptime, e.End.Host.Uptime
	if a == nil || b == nil {
		return Figure{Unknown: "the uptime could not be read"}
	}
	// The samples find a clock that was set back again.
	step := max((e.End.Time.Sub(e.Start.Time) - (*b - *a)).Abs(), e.Samples.ClockStep)
	return Figure{Value: step.Seconds(), Text: fmt.Sprintf("the clock was set by %s", step.Round(10*time.Millisecond))}
}

func missing(e *Evidence) Figure {
	all := e.Duration()
	if all <= 0 {
		return Figure{Unknown: "too short to judge"}
	}
	const tolerated = 0.1
	share := 1 - min(e.Samples.Covered.Seconds()/all.Seconds(), 1)
	if share <= tolerated || all < 10*time.Second {
		return Figure{}
	}
	return Figure{Value: 100 * share, Share: &share, Text: fmt.Sprintf("there are no samples for %.3g%% of %.0f s", 100*share, all.Seconds())}
}

// neighbours returns a figure for each other run, in percent of the time.
func neighbours(e *Evidence) (figures []Figure) {
	all := e.Duration()
	if e.End == nil || all <= 0 {
		return nil
	}
	for _, n := range e.Neighbours {
		share := min(max(n.Last.Sub(n.First).Seconds()/all.Seconds(), 0), 1)
		figures = append(figures, Figure{
			// One that was seen once was there for an unknown short time.
			Value: max(100*share, 0.1), Share: &share, First: &n.First, Last: &n.Last,
			Text: fmt.Sprintf("%s ran for %.3g%% of %.0f s", n.Name, 100*share, all.Seconds()),
		})
	}
	return figures
}
