package heartbeat

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Bounds of the interval between beats, which the server keeps to as well.
const (
	MinInterval     = 10 * time.Second
	MaxInterval     = 300 * time.Second
	DefaultInterval = 30 * time.Second

	// MinRunningInterval is the least interval while a benchmark runs, so that
	// the beats don't disturb it.
	MinRunningInterval = 60 * time.Second

	// OfflineAfter is how long a KITT server waits for a beat before it shows
	// an agent as offline. A longer interval makes an agent look offline most
	// of the time.
	OfflineAfter = 90 * time.Second
)

const (
	maxRetry      = 24 * time.Second // varied by a quarter: a retry comes within 30 s
	nudgeSpacing  = 100 * time.Millisecond
	refusedWait   = 30 * time.Second
	intervalShare = 10 // an interval is varied by up to a tenth

	// callTimeout bounds each call of the Client: by then the agent is shown as
	// offline, and a new attempt is worth more than the answer.
	callTimeout = OfflineAfter

	// lateness is how far beyond its time a step may go, as on a machine that is
	// out of breath, before the loop counts as stuck.
	lateness = time.Minute
)

// A Client carries the loop's words to the server.
type Client interface {
	// Register makes the agent known and returns the server's id for it and
	// the interval that it proposes, 0 for none. Its ctx, like Heartbeat's, ends
	// after OfflineAfter.
	Register(ctx context.Context) (id string, interval time.Duration, err error)

	// Heartbeat sends beat on behalf of the agent with this id or name. Its
	// error matches ErrUnknownAgent if the server knows no such agent.
	Heartbeat(ctx context.Context, id string, beat Beat) (Answer, error)
}

// Config says what a Loop needs. Client and Compose are required.
type Config struct {
	Client Client

	// Name stands in for the server's id until the first registration.
	Name string

	// Compose returns what the next beat says. It must not wait for anything.
	Compose func() Beat

	// Handle, if set, takes each answer, on the loop's goroutine.
	Handle func(ctx context.Context, answer Answer)

	// Interval is the time between beats, from MinInterval to MaxInterval;
	// while a benchmark runs it is at least MinRunningInterval. Defaults to
	// DefaultInterval.
	Interval time.Duration

	// Logger takes what an operator wants to know; nil discards it.
	Logger *slog.Logger
}

// A Loop registers an agent and sends its heartbeats.
type Loop struct {
	cfg    Config
	log    *slog.Logger
	nudges chan struct{}
	renew  atomic.Bool // whether to register anew before the next beat

	mu       sync.Mutex
	interval time.Duration
	state    State
}

// State says how the loop fares.
type State struct {
	AgentID    string        // the server's id for the agent; empty before it gave one
	Registered bool          // whether a registration or a beat went through
	Interval   time.Duration // in force while idle
	LastBeat   time.Time     // when the last beat went through; zero before that
	LastError  string        // why the last attempt failed; empty if it didn't
	FailingFor int           // attempts that failed since the last that went through

	// Due is by when the loop moves on at the latest: a call that goes on for
	// longer ignores its deadline, and the loop is stuck. Zero while Run doesn't
	// run.
	Due time.Time
}

// New returns a loop that beats once Run is called.
func New(cfg Config) (*Loop, error) {
	var faults []error
	if cfg.Client == nil {
		faults = append(faults, errors.New("Client is missing"))
	}
	if cfg.Compose == nil {
		faults = append(faults, errors.New("Compose is missing"))
	}
	if cfg.Interval == 0 {
		cfg.Interval = DefaultInterval
	}
	if err := checkInterval(cfg.Interval); err != nil {
		faults = append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("heartbeat: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Loop{cfg: cfg, log: cfg.Logger, interval: cfg.Interval, nudges: make(chan struct{}, 1)}, nil
}

func checkInterval(d time.Duration) error {
	if d < MinInterval || d > MaxInterval {
		return fmt.Errorf("interval of %s is not within %s and %s", d, MinInterval, MaxInterval)
	}
	return nil
}

// SetInterval changes the time between beats, from the next wait on. It returns
// an error and changes nothing if d is out of bounds.
func (l *Loop) SetInterval(d time.Duration) error {
	if err := checkInterval(d); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.interval = d
	return nil
}

// Nudge asks for a beat at once, as when a job starts or ends. It never waits.
func (l *Loop) Nudge() {
	select {
	case l.nudges <- struct{}{}:
	default: // one is asked for already
	}
}

// Renew asks for a new registration and a beat at once, as when the machine has
// changed. It never waits.
func (l *Loop) Renew() {
	l.renew.Store(true)
	l.Nudge()
}

// State returns how the loop fares now.
func (l *Loop) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.state
	s.Interval = l.interval
	return s
}

// Run registers the agent and beats until ctx is done, and then returns nil.
func (l *Loop) Run(ctx context.Context) error {
	defer l.rest()
	retry := newRetry()
	known := false // whether the server is believed to know the agent
	var said Beat
	for ctx.Err() == nil {
		var wait time.Duration
		if err := l.speak(ctx, &known, &said); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			wait = retry.NextBackOff()
			if isRefusal(err) {
				wait = refusedWait + rand.N(refusedWait)
			}
			l.failed(ctx, err)
		} else {
			retry.Reset()
			l.succeeded(ctx)
			wait = l.wait(said)
		}
		l.pause(ctx, wait)
	}
	return nil
}

// newRetry returns the waits between failed attempts.
func newRetry() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = 2 * time.Second
	// No more than it takes to keep agents apart: the longer the shortest wait,
	// the fewer come at once when a server is back.
	b.RandomizationFactor = 0.25
	b.Multiplier = 2
	b.MaxInterval = maxRetry
	return b
}

// speak registers if that is needed, beats, and registers and beats once more
// if the server turns out to have forgotten the agent.
func (l *Loop) speak(ctx context.Context, known *bool, said *Beat) error {
	for attempt := range 2 {
		if !*known || l.renew.Load() {
			l.renew.Store(false) // before, so that what changes meanwhile counts
			*known = false
			if err := l.register(ctx); err != nil {
				return fmt.Errorf("register: %w", err)
			}
			*known = true
		}
		answer, err := l.beat(ctx, said)
		if errors.Is(err, ErrUnknownAgent) {
			*known = false
			if attempt == 0 {
				l.log.InfoContext(ctx, "server does not know this agent, registering again")
				continue
			}
		}
		if err != nil {
			return fmt.Errorf("heartbeat: %w", err)
		}
		l.adopt(answer.AgentID)
		if l.cfg.Handle != nil {
			l.promise(callTimeout)
			l.cfg.Handle(ctx, answer)
		}
		return nil
	}
	return nil
}

// promise notes that the step that begins takes at most d.
func (l *Loop) promise(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.Due = time.Now().Add(d + lateness)
}

func (l *Loop) rest() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.Due = time.Time{}
}

func (l *Loop) beat(ctx context.Context, said *Beat) (Answer, error) {
	l.promise(callTimeout)
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	*said = l.cfg.Compose()
	return l.cfg.Client.Heartbeat(ctx, l.id(), *said)
}

func (l *Loop) register(ctx context.Context) error {
	l.promise(callTimeout)
	calling, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	id, interval, err := l.cfg.Client.Register(calling)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.state.AgentID = id
	l.mu.Unlock()
	l.log.InfoContext(ctx, "registered", "agent_id", id)
	if interval > 0 && l.cfg.Interval == DefaultInterval {
		// A proposal that makes no sense leaves the interval as it is.
		_ = l.SetInterval(interval)
	}
	return nil
}

// adopt takes over the server's own id for the agent.
func (l *Loop) adopt(id string) {
	if id == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.AgentID = id
}

func (l *Loop) id() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state.AgentID != "" {
		return l.state.AgentID
	}
	return l.cfg.Name
}

// isRefusal tells the server's own final word from an outage.
func isRefusal(err error) bool {
	var r interface{ Refused() bool }
	return errors.As(err, &r) && r.Refused()
}

// failed notes an attempt that failed. The first of a row is worth a warning,
// as is one with another reason; the rest would only fill the log.
func (l *Loop) failed(ctx context.Context, err error) {
	l.mu.Lock()
	first := l.state.LastError != err.Error()
	l.state.LastError = err.Error()
	l.state.FailingFor++
	l.mu.Unlock()
	if first {
		l.log.WarnContext(ctx, "server not reached, trying on", "err", err)
	} else {
		l.log.DebugContext(ctx, "server still not reached", "err", err)
	}
}

func (l *Loop) succeeded(ctx context.Context) {
	l.mu.Lock()
	before := l.state
	l.state.Registered = true
	l.state.LastBeat = time.Now()
	l.state.LastError = ""
	l.state.FailingFor = 0
	l.mu.Unlock()
	if before.FailingFor > 0 {
		l.log.InfoContext(ctx, "server reached again", "failed_attempts", before.FailingFor)
	}
}

// wait returns the time to the next beat after said, which went through.
func (l *Loop) wait(said Beat) time.Duration {
	l.mu.Lock()
	d := l.interval
	l.mu.Unlock()
	d -= rand.N(d / intervalShare)
	if said.Busy || said.Status == StatusRunning {
		d = max(d, MinRunningInterval+rand.N(MinRunningInterval/intervalShare))
	}
	return d
}

// pause waits for d, a nudge or the end of ctx. Nudges are kept a little apart,
// so that jobs that end at once don't make a burst of beats.
func (l *Loop) pause(ctx context.Context, d time.Duration) {
	l.promise(d)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-l.nudges:
		spacing := time.NewTimer(min(nudgeSpacing, d))
		defer spacing.Stop()
		select {
		case <-ctx.Done():
		case <-spacing.C:
		}
		select { // one beat answers every nudge up to now
		case <-l.nudges:
		default:
		}
	}
}
