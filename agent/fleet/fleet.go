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
	"github.com/kirizan/kitt-agent/runner/simulated"
)

// Defaults of Config.
const (
	DefaultPrefix       = "sim"
	DefaultMaxInFlight  = 256
	DefaultDrainTimeout = 30 * time.Second

	// rampStep is the time between the starts of two agents, for fleets that
	// are started within maxRamp at that pace.
	rampStep = 20 * time.Millisecond
	maxRamp  = heartbeat.DefaultInterval
)

// MaxAgents is the largest fleet that one process runs.
const MaxAgents = 100_000

// A Server is the control plane that a fleet's agents register with and report
// to, such as a kittapi.Client. Its methods are called by many agents at once.
// One that is an [reporter.Inquirer] or an [reporter.Checker] too is used as such.
type Server interface {
	agent.Server
	reporter.Reporter
}

// Config says what a Fleet is made of. Server, Dir and Groups are required; the
// zero value of everything else means its default.
type Config struct {
	// Server is what all agents speak to.
	Server Server

	// Dir is where agents keep their jobs, each in a directory of its name.
	Dir string

	// Groups are the agents.
	Groups []Group

	// Prefix begins the agents' names, such as sim-h100-8-0001. Defaults to
	// DefaultPrefix.
	Prefix string

	// Seed decides machines and, together with a job's ID, all that a run
	// prints and measures.
	Seed uint64

	// Speed is the factor on the delays of simulated runs: 1 keeps them (a line
	// each 0.5 to 1.5 s), 0 (the default) leaves them out. From 0 to 1000.
	// Scenario is what goes wrong in them. Groups may have their own.
	Speed    float64
	Scenario simulated.Scenario

	// Interval is the time between the heartbeats of an idle agent, as if it
	// stood in its agent.yaml. Defaults to what the server says.
	Interval time.Duration

	// Ramp is the time over which the agents are started, one after the other.
	// Defaults to 20 ms for each, at most one heartbeat interval of 30 s in all;
	// negative starts all at once.
	Ramp time.Duration

	// MaxInFlight is how many requests are under way at once; more wait their
	// turn. It bounds memory and sockets. A KITT server 1.7 can lock its database
	// for good when a result overlaps with other requests, which 1 keeps from
	// happening. Defaults to DefaultMaxInFlight.
	MaxInFlight int

	// DrainTimeout bounds how long Run goes on delivering reports after its
	// context ended. Defaults to DefaultDrainTimeout.
	DrainTimeout time.Duration

	// Version is what the agents call themselves to the server.
	Version string

	// Registered, if set, is called when an agent has registered for the first
	// time and before its first heartbeat: what is launched for it now is handed
	// out with that. It counts as one request of MaxInFlight; an error counts as a
	// registration that failed, and is tried again.
	Registered func(ctx context.Context, name, agentID string) error

	// Logger takes what the agents log, with their names. Defaults to none.
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
	fault(strings.ContainsAny(cfg.Prefix, `/\`), "Prefix %q has a slash, which names cannot hold", cfg.Prefix)
	fault(cfg.MaxInFlight < 0, "MaxInFlight is %d, less than none", cfg.MaxInFlight)
	count := 0
	taken := map[string]bool{}
	for _, g := range cfg.Groups {
		count += max(g.Count, 0)
		err := g.validate(cfg)
		fault(err != nil, "group %s: %w", g.label(), err)
		fault(taken[g.label()], "group %s: the name is there twice; give one of them another with Name", g.label())
		taken[g.label()] = true
	}
	fault(count > MaxAgents, "%d agents are more than %d", count, MaxAgents)
	return errors.Join(faults...)
}

// A Fleet is a number of virtual agents. Its methods are safe for concurrent use.
type Fleet struct {
	cfg     Config
	agents  []*virtual
	meter   *meter
	running atomic.Bool
}

// New returns a fleet that does nothing until Run is called. It reports all that
// is wrong with cfg at once.
func New(cfg Config) (*Fleet, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	cfg.Groups = slices.Clone(cfg.Groups)
	f := &Fleet{cfg: cfg, meter: newMeter(cfg)}
	var faults []error
	for i := range cfg.Groups {
		members, err := f.muster(&cfg.Groups[i])
		if err != nil {
			faults = append(faults, fmt.Errorf("group %s: %w", cfg.Groups[i].label(), err))
		}
		f.agents = append(f.agents, members...)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	if len(f.agents) == 0 {
		return nil, errors.New("fleet: there is no agent in it")
	}
	f.meter.agents = len(f.agents)
	return f, nil
}

// muster makes the agents of a group.
func (f *Fleet) muster(g *Group) ([]*virtual, error) {
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

// Run runs the fleet until ctx is done and every agent has stopped: jobs that
// run end, are reported as failed, and what can be delivered is. The error of an
// agent that could not run stops the others. Run can be called once.
func (f *Fleet) Run(ctx context.Context) error {
	if f.running.Swap(true) {
		return errors.New("fleet: Run was called before")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var agents sync.WaitGroup
	var once sync.Once
	var failure error // of the first agent that could not run
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

// sleepUntil waits until at, and reports whether ctx did not end before.
func sleepUntil(ctx context.Context, at time.Time) bool {
	if d := time.Until(at); d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return ctx.Err() == nil
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
		GPUs:         agent.GPUNone, // the machine is made up; the one below may have none
		Settings:     agent.Settings{Interval: f.cfg.Interval},
		DrainTimeout: f.cfg.DrainTimeout,
		Engines:      noEngines,
		Logger:       f.cfg.Logger.With("agent", v.name),
	})
}

// noEngines are the engines that are installed on a machine that is made up.
func noEngines(context.Context) []heartbeat.Engine { return nil }
