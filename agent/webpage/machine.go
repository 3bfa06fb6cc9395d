package webpage

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/preflight"
	"github.com/kirizan/kitt-agent/storage"
)

// A modelsPage is the copies of models.
type modelsPage struct {
	Known  bool // whether the program can list them
	Copies []storage.Copy
	Fault  string
}

func (p *Page) models(r *http.Request, _ agent.Status) view {
	m := modelsPage{Known: p.cfg.Models != nil}
	if m.Known {
		copies, err := read(r.Context(), p.disk, diskWait, p.cfg.Models)
		if err != nil {
			m.Fault = err.Error()
		}
		m.Copies = copies[:min(len(copies), maxModels)]
	}
	return view{name: "models", here: "models", data: m}
}

// maxModels is how many models are listed.
const maxModels = 1000

// A machinePage is the machine, its engines, and whether it has what the agent needs.
type machinePage struct {
	Machine   *hwdetect.Machine
	Engines   []heartbeat.Engine
	HasChecks bool
	Checks    checkRun
}

func (p *Page) machine(_ *http.Request, status agent.Status) view {
	m := machinePage{Machine: p.a.Machine(), Engines: p.a.Engines(), HasChecks: p.cfg.Preflight != nil}
	if m.HasChecks {
		m.Checks = p.checks.latest(!status.Running)
	}
	return view{name: "machine", here: "machine", data: m}
}

// checksFor is how long results of checks are shown before new ones are taken.
// checksLimit is what one round may take.
const (
	checksFor   = 10 * time.Minute
	checksLimit = 2 * time.Minute
)

// A checkRun is the results of one round of checks.
type checkRun struct {
	At      time.Time // zero before the first
	Running bool      // whether a round is on its way
	Waits   bool      // whether one waits for a job to end
	Results []preflight.Result
	Fault   string
}

// checks runs preflight when a viewer opens the page of checks.
type checks struct {
	run func(context.Context) ([]preflight.Result, error)

	mu   sync.Mutex
	last checkRun // guarded by mu
}

// latest returns the latest results, and begins a new round if they are old. None begins
// while a job runs.
func (c *checks) latest(idle bool) checkRun {
	c.mu.Lock()
	defer c.mu.Unlock()
	due := !c.last.Running && (c.last.At.IsZero() || time.Since(c.last.At) >= checksFor)
	c.last.Waits = due && !idle
	if due && idle {
		c.last.Running = true
		go c.round() // it ends by its limit; nobody waits for it
	}
	return c.last
}

// round takes the results once.
func (c *checks) round() {
	ctx, cancel := context.WithTimeout(context.Background(), checksLimit)
	defer cancel()
	results, err := c.run(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = checkRun{At: time.Now(), Results: results}
	if err != nil {
		c.last.Fault = err.Error()
	}
}

// A settingsPage is the settings that the server may change, and the program's own.
type settingsPage struct {
	Shared   []Setting
	Own      []Setting // that somebody has set
	Defaults []Setting // the others
}

// sharedMeanings says what the settings mean that a server can change.
var sharedMeanings = map[string]string{
	"model_storage_dir":    "where copies of models are kept",
	"model_share_source":   "the share that models are copied from",
	"model_share_mount":    "where the share is mounted",
	"auto_cleanup":         "whether a copy goes when nobody needs it any more",
	"kitt_image":           "container image that benchmarks run in",
	"heartbeat_interval_s": "seconds between heartbeats",
}

// sourceTexts says where the value of such a setting comes from.
var sourceTexts = map[string]string{
	agent.SourceServer: "the server", agent.SourceRemembered: "the server, before the agent was started",
	agent.SourceMachine: "this machine's configuration", agent.SourceDefault: "default",
}

func (p *Page) settings(_ *http.Request, status agent.Status) view {
	var page settingsPage
	for name, value := range status.Settings {
		page.Shared = append(page.Shared, Setting{name, value, sourceTexts[status.SettingSources[name]], sharedMeanings[name]})
	}
	slices.SortFunc(page.Shared, func(a, b Setting) int { return strings.Compare(a.Name, b.Name) })
	if p.cfg.Settings != nil {
		for _, s := range p.cfg.Settings() {
			if s.Source == sourceTexts[agent.SourceDefault] {
				page.Defaults = append(page.Defaults, s)
			} else {
				page.Own = append(page.Own, s)
			}
		}
	}
	return view{name: "settings", here: "settings", data: page}
}
