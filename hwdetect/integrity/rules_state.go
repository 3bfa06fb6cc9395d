package integrity

import (
	"fmt"
	"strings"
)

// gpuStateRules judge settings.
func gpuStateRules() []Rule {
	return []Rule{
		{Code: "settings_changed", Unit: "count", Limit: invalidAbove(0), Remedy: "repeat the run, and change no setting during it",
			Why:     "the run was measured with two different machines",
			Figures: func(e *Evidence) []Figure { return eachGPU(e, changedSettings) }},
		{Code: "power_limit", Unit: "%", Limit: warnAbove(0), Remedy: "nvidia-smi --power-limit sets the default again",
			Why:     "results with a lower limit cannot be compared with those of other machines",
			Figures: func(e *Evidence) []Figure { return eachGPU(e, loweredLimit) }},
		{Code: "persistence_off", Unit: "count", Limit: warnAbove(0), Remedy: "start nvidia-persistenced",
			Why:     "the driver is loaded again at each start, which takes seconds and resets counters",
			Figures: func(e *Evidence) []Figure { return eachGPU(e, persistenceOff) }},
		{Code: "remap", Unit: "count", Limit: warnAbove(0), Remedy: "reset the GPU; replace it if remapping failed",
			Why:     "memory with errors waits to be replaced by spare rows",
			Figures: func(e *Evidence) []Figure { return eachGPU(e, remap) }},
	}
}

func changedSettings(p pair) Figure {
	var changed []string
	known := 0
	compare := func(name string, comparable, same bool) {
		if comparable {
			known++
		}
		if comparable && !same {
			changed = append(changed, name)
		}
	}
	a, b := p.start, p.end
	compare("power limit", both(a.PowerLimitW, b.PowerLimitW), same(a.PowerLimitW, b.PowerLimitW))
	compare("persistence mode", both(a.Persistence, b.Persistence), same(a.Persistence, b.Persistence))
	compare("compute mode", a.ComputeMode != "" && b.ComputeMode != "", a.ComputeMode == b.ComputeMode)
	compare("MIG mode", both(a.MIG, b.MIG), same(a.MIG, b.MIG))
	compare("ECC mode", both(a.ECC, b.ECC), same(a.ECC, b.ECC))
	if known == 0 {
		return Figure{Unknown: "the settings could not be read"}
	}
	return Figure{Value: float64(len(changed)), Text: strings.Join(changed, ", ") + " changed during the run"}
}

func both[T any](a, b *T) bool        { return a != nil && b != nil }
func same[T comparable](a, b *T) bool { return both(a, b) && *a == *b }
func either(a, b *bool) (set, known bool) {
	return a != nil && *a || b != nil && *b, a != nil || b != nil
}

func loweredLimit(p pair) Figure {
	limit, normal := p.start.PowerLimitW, p.start.DefaultPowerLimitW
	if limit == nil || normal == nil || *normal <= 0 {
		return Figure{Unknown: "the power limit or its default could not be read"}
	}
	lowered := max(100*(1 - *limit / *normal), 0)
	return Figure{Value: lowered, Text: fmt.Sprintf("power limit of %.0f W instead of %.0f W", *limit, *normal)}
}

func persistenceOff(p pair) Figure {
	if p.start.Persistence == nil {
		return Figure{Unknown: "the persistence mode could not be read"}
	}
	f := Figure{Text: "persistence mode off"}
	if !*p.start.Persistence {
		f.Value = 1
	}
	return f
}

func remap(p pair) Figure {
	failed, failedKnown := either(p.start.RemapFailed, p.end.RemapFailed)
	pending, pendingKnown := either(p.start.RemapPending, p.end.RemapPending)
	switch {
	case failed:
		return Figure{Value: 1, Text: "memory with errors could not be replaced by spare rows"}
	case pending:
		return Figure{Value: 1, Text: "memory with errors is replaced by spare rows at the next reset"}
	case !failedKnown && !pendingKnown:
		return Figure{Unknown: "remapped rows could not be read"}
	}
	return Figure{}
}
