package webpage

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/storage"
)

var viewNames = []string{"now", "gpus", "jobs", "job", "compare", "models", "machine", "settings", "fault", "login"}

// An overview is what the first view shows in addition to the status.
type overview struct {
	GPUs   []gpuCard
	Recent []agent.JobStatus
}

func (p *Page) now(_ *http.Request, status agent.Status) view {
	recent := status.Recent
	return view{name: "now", here: "now", data: overview{GPUs: p.gpuCards(status), Recent: recent[:min(len(recent), 5)]}}
}

func (p *Page) gpus(_ *http.Request, status agent.Status) view {
	return view{name: "gpus", here: "gpus", data: p.gpuCards(status)}
}

func (p *Page) missing(*http.Request, agent.Status) view {
	return view{status: http.StatusNotFound, name: "fault", data: "There is no such page."}
}

// A gpuCard is one GPU and its latest figures. A figure is a dash where it is unknown.
type gpuCard struct {
	Index                                   int
	Model                                   string
	Load                                    float64 // utilisation, 0 to 100
	Utilization, Memory, Temperature, Power string
	Clock                                   string
	Throttled                               []string
}

// gpuCards returns the GPUs of the machine, or of the latest reading where the machine
// was not read yet.
func (p *Page) gpuCards(status agent.Status) (cards []gpuCard) {
	machine := p.a.Machine()
	for _, g := range status.Telemetry.GPUs {
		card := gpuCard{Index: g.Index, Throttled: slowing(g.ThrottleReasons)}
		var total int64
		if machine != nil {
			if i := slices.IndexFunc(machine.GPUs, func(m hwdetect.GPU) bool { return m.Index == g.Index }); i >= 0 {
				card.Model, total = machine.GPUs[i].Model, machine.GPUs[i].MemoryBytes
			}
		}
		if g.UtilizationPct != nil {
			card.Load = *g.UtilizationPct
		}
		card.Utilization = figure(g.UtilizationPct, "%.0f %%")
		card.Temperature = figure(g.TemperatureC, "%.0f °C")
		card.Power = figure(g.PowerW, "%.0f W")
		card.Clock = figure(g.SMClockMHz, "%d MHz")
		card.Memory = "–"
		if g.MemoryUsedBytes != nil {
			card.Memory = fmt.Sprintf("%.1f", float64(*g.MemoryUsedBytes)/(1<<30))
			if total > 0 {
				card.Memory += fmt.Sprintf(" of %.0f", float64(total)/(1<<30))
			}
			card.Memory += " GiB"
		}
		cards = append(cards, card)
	}
	return cards
}

// figure writes *v, or a dash.
func figure[T any](v *T, format string) string {
	if v == nil {
		return "–"
	}
	return fmt.Sprintf(format, *v)
}

// slowing returns those of the reasons for throttling that make a GPU slower than it is
// set to be.
func slowing(reasons []string) []string {
	return slices.DeleteFunc(slices.Clone(reasons), func(reason string) bool {
		return reason == "applications_clocks_setting" || reason == "display_clocks_setting" || reason == "sync_boost"
	})
}

// reasonText writes one of them for people.
func reasonText(reason string) string {
	if text, ok := map[string]string{
		"sw_power_cap": "power cap", "hw_slowdown": "hardware slowdown", "sw_thermal_slowdown": "thermal slowdown (driver)",
		"hw_thermal_slowdown": "thermal slowdown (hardware)", "hw_power_brake_slowdown": "power brake",
	}[reason]; ok {
		return text
	}
	return strings.ReplaceAll(reason, "_", " ")
}

// A step is one state on a job's way.
type step struct {
	Name  string
	Class string // done, now, next or bad
}

// steps returns the states of a job in their order, with where it is.
func steps(now agent.State) []step {
	all := []agent.State{agent.StateAccepted, agent.StatePreparing, agent.StateRunning, agent.StateFinishing, agent.StateCompleted}
	names := []string{"waiting", "model", "run", "result", "done"}
	at := slices.Index(all, now)
	out := make([]step, len(all))
	for i := range all {
		out[i] = step{names[i], "next"}
		switch {
		case i < at || now == agent.StateCompleted:
			out[i].Class = "done"
		case i == at:
			out[i].Class = "now"
		}
	}
	if now == agent.StateFailed || now == agent.StateCancelled {
		return []step{{string(now), "bad"}}
	}
	return out
}

func isActive(s agent.State) bool { return s.Active() }

// rate writes a speed in bytes per second.
func rate(bytesPerSecond float64) string { return base.Size(int64(bytesPerSecond)) + "/s" }

// percent returns done of total as 0 to 100.
func percent(done, total int64) int {
	if total <= 0 {
		return 0
	}
	return int(min(100, 100*float64(done)/float64(total)))
}

// took writes how long a job ran.
func took(j agent.JobStatus) string {
	if j.StartedAt.IsZero() || j.EndedAt.IsZero() {
		return "–"
	}
	return span(j.EndedAt.Sub(j.StartedAt))
}

func seconds(s float64) string {
	if math.IsNaN(s) || s > math.MaxInt32 {
		return "–"
	}
	return span(time.Duration(s * float64(time.Second)))
}

// span writes a duration as live.js does.
func span(d time.Duration) string {
	s := int64(max(d, 0) / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 3600:
		return fmt.Sprintf("%d min %d s", s/60, s%60)
	case s < 48*3600:
		return fmt.Sprintf("%d h %d min", s/3600, s%3600/60)
	}
	return fmt.Sprintf("%d days", s/86400)
}

// copyState says in what state a copy of a model is.
func copyState(c storage.Copy) string {
	switch {
	case c.Running:
		return "being copied"
	case c.Partial:
		return "interrupted; continues when it is needed"
	case len(c.Holders) > 1:
		return fmt.Sprintf("used by %d jobs", len(c.Holders))
	case len(c.Holders) == 1:
		return "used by a job"
	}
	return "kept"
}

func lastPart(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }
