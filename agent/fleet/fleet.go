package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner/engine"
	"github.com/kirizan/kitt-agent/runner/simulated"
)

// Defaults of Config.
const (
	DefaultPrefix       = "sim"
	DefaultMaxInFlight  = 256
	DefaultDrainTimeout = 30 * time.Second

	// rampStep is the default time between the starts of two agents, unless the
	// whole ramp would then exceed maxRamp.
	rampStep = 20 * time.Millisecond
	maxRamp  = heartbeat.DefaultInterval
)

// MaxAgents is the largest number of agents in a fleet.
const MaxAgents = 100_000

// A Server is the control plane that a fleet's agents register with and report to,
// such as a kittapi.Client. Its methods must be safe for concurrent use. If it is also
// a [reporter.Inquirer], [reporter.TestFinder], [reporter.Checker] or
// [reporter.EncodedReporter], the agents use these methods too.
type Server interface {
	agent.Server
	reporter.Reporter
}

// Config configures a Fleet. Server, Dir and Groups are required; the zero value of
// every other field means its default.
type Config struct {
	// Server is the control plane of all agents.
	Server Server

	// Dir is the directory for the agents' jobs. Each agent has a subdirectory with
	// its name.
	Dir string

	// Groups are the groups of agents.
	Groups []Group

	// Prefix is the first part of the agents' names, such as sim-h100-8-0001.
	// Defaults to DefaultPrefix.
	Prefix string

	// Seed determines the machines and, together with a job's id, the output and
	// the figures of each run.
	Seed uint64

	// Speed is the factor for the delays of simulated runs, from 0 to 1000: 1 means
	// a line every 0.5 to 1.5 s, 0 (the default) no delays. Scenario is the failure
	// scenario. Groups can override both.
	Speed    float64
	Scenario simulated.Scenario

	// Interval is the time between the heartbeats of an idle agent, like the
	// setting in agent.yaml. Defaults to the server's interval.
	Interval time.Duration

	// Ramp is the time over which the agents are started, one after the other.
	// Defaults to 20 ms for each agent, at most 30 s in total. A negative Ramp
	// starts all at once.
	Ramp time.Duration

	// MaxInFlight is the largest number of concurrent requests; further ones wait.
	// It bounds memory and sockets. A KITT server 1.7 can lock its database
	// permanently if a result overlaps with other requests; 1 avoids this.
	// Defaults to DefaultMaxInFlight.
	MaxInFlight int

	// DrainTimeout is how long Run continues to deliver reports after its context
	// is done. Defaults to DefaultDrainTimeout.
	DrainTimeout time.Duration

	// Version is the version that the agents report to the server.
	Version string

	// Registered, if set, is called after an agent's first registration and before
	// its first heartbeat, which receives what Registered launches. The call counts
	// as a request of MaxInFlight. If it returns an error, the agent registers
	// again. It must be safe for concurrent use.
	Registered func(ctx context.Context, name, agentID string) error

	// Logger receives the agents' logs, with their names. Defaults to discarding
	// them.
	Logger *slog.Logger
}

func (cfg Config) withDefaults() Config {
	if cfg.Prefix == "" {
		cfg.Prefix = DefaultPrefix
	}
	if cfg.MaxInFlight == 0 {
		cfg.MaxInFlight = DefaultMaxInFlight
	}
	if cfg.DrainTimeout == 0 {
		cfg.DrainTimeout = DefaultDrainTimeout
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return cfg
}

func (cfg Config) validate() error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	fault(cfg.Server == nil, "Server is missing")
	fault(cfg.Dir == "", "Dir is empty")
	fault(len(cfg.Groups) == 0, "Groups is empty")
	fault(strings.ContainsAny(cfg.Prefix, `/\`), "Prefix %q has a slash, which names cannot have", cfg.Prefix)
	fault(cfg.MaxInFlight < 0, "MaxInFlight %d is negative", cfg.MaxInFlight)
	count := 0
	used := map[string]bool{}
	for _, g := range cfg.Groups {
		count += max(g.Count, 0)
		err := g.validate(cfg)
		fault(err != nil, "group %s: %w", g.label(), err)
		fault(used[g.label()], "group %s: two groups have this name; set another Name for one of them", g.label())
		used[g.label()] = true
	}
	fault(count > MaxAgents, "%d agents are more than the limit of %d", count, MaxAgents)
	return errors.Join(faults...)
}

// A Fleet is a number of virtual agents. Its methods are safe for concurrent use.
type Fleet struct {
	cfg     Config
	agents  []*virtual
	meter   *meter
	running atomic.Bool
}

// New returns a fleet. It starts nothing. The error joins everything that is wrong
// with cfg.
func New(cfg Config) (*Fleet, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	cfg.Groups = slices.Clone(cfg.Groups)
	f := &Fleet{cfg: cfg, meter: newMeter(cfg)}
	var faults []error
	for i := range cfg.Groups {
		members, err := f.newGroup(&cfg.Groups[i])
		if err != nil {
			faults = append(faults, fmt.Errorf("group %s: %w", cfg.Groups[i].label(), err))
		}
		f.agents = append(f.agents, members...)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	if len(f.agents) == 0 {
		return nil, errors.New("fleet: the groups have no agents")
	}
	f.meter.agents = len(f.agents)
	return f, nil
}

// newGroup returns the agents of a group.
func (f *Fleet) newGroup(g *Group) ([]*virtual, error) {
	members := make([]*virtual, 0, g.Count)
	machine := g.Machine
	for i := range g.Count {
		if g.Machine == nil && (i == 0 || g.random()) {
			var err error
			if machine, err = g.build(f.cfg.Seed + uint64(i)); err != nil {
				return nil, err
			}
		}
		v, err := newVirtual(f, g, fmt.Sprintf("%s-%s-%04d", f.cfg.Prefix, g.label(), i+1), machine)
		if err != nil {
			return nil, err
		}
		members = append(members, v)
	}
	return members, nil
}

// Names returns the names of the agents, in the order in which they start.
func (f *Fleet) Names() []string {
	names := make([]string, len(f.agents))
	for i, v := range f.agents {
		names[i] = v.name
	}
	return names
}

// Run runs the fleet until ctx is done and every agent has stopped. Running jobs are
// then ended and reported as failed, within Config.DrainTimeout. If an agent fails,
// Run stops all others and returns its error. Run can be called once.
func (f *Fleet) Run(ctx context.Context) error {
	if f.running.Swap(true) {
		return errors.New("fleet: Run was already called")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var agents sync.WaitGroup
	var once sync.Once
	var failure error // of the first agent that failed
	begun := time.Now()
	step := f.ramp() / time.Duration(len(f.agents))
	for i, v := range f.agents {
		if !sleepUntil(ctx, begun.Add(time.Duration(i)*step)) {
			break
		}
		agents.Go(func() {
			f.meter.started.Add(1)
			defer f.meter.stopped(v)
			if err := v.agent.Run(ctx); err != nil {
				once.Do(func() { failure = fmt.Errorf("fleet: agent %s: %w", v.name, err) })
				cancel()
			}
		})
	}
	<-ctx.Done()
	agents.Wait()
	return failure
}

// ramp returns the time over which the agents are started.
func (f *Fleet) ramp() time.Duration {
	switch {
	case f.cfg.Ramp < 0:
		return 0
	case f.cfg.Ramp > 0:
		return f.cfg.Ramp
	}
	return min(time.Duration(len(f.agents))*rampStep, maxRamp)
}

// sleepUntil waits until at, and reports whether ctx is not done.
func sleepUntil(ctx context.Context, at time.Time) bool {
	return base.Wait(ctx, time.Until(at)) == nil
}

// newAgent returns the agent of v.
func (f *Fleet) newAgent(v *virtual) (*agent.Agent, error) {
	return agent.New(agent.Config{
		Name:         v.name,
		Version:      f.cfg.Version,
		Dir:          filepath.Join(f.cfg.Dir, v.name),
		Server:       f.meter.connect(v),
		Runner:       v,
		Detector:     v.machine(),
		Integrity:    v.integrity(),
		GPUs:         agent.GPUNone, // the machine is simulated; the real one may have no GPUs
		Settings:     agent.Settings{Interval: f.cfg.Interval},
		DrainTimeout: f.cfg.DrainTimeout,
		Engines:      engine.ReadOnly{},
		Logger:       f.cfg.Logger.With("agent", v.name),
	})
}
