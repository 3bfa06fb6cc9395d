package heartbeat

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/cenkalti/backoff/v5"

	"github.com/kirizan/kitt-agent/internal/base"
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

	// callTimeout bounds each call of the Client. By then the server shows the
	// agent as offline, and a new attempt is worth more than the answer.
	callTimeout = OfflineAfter

	// lateness is how far a step may exceed its deadline, as on an overloaded
	// machine, before the loop counts as stuck.
	lateness = time.Minute
)

// A Client sends the loop's requests to the server.
type Client interface {
	// Register registers the agent. It returns the server's id for it and the
	// interval that the server proposes, 0 for none. Its ctx, like Heartbeat's,
	// ends after OfflineAfter.
	Register(ctx context.Context) (id string, interval time.Duration, err error)

	// Heartbeat sends beat for the agent with this id or name. Its error matches ErrUnknownAgent if the server knows no such agent.
	Heartbeat(ctx context.Context, id string, beat Beat) (Answer, error)
}

// Config says what a Loop needs. Client and Compose are required.
type Config struct {
	Client Client

	// Name is used in place of the server's id until the first registration.
	Name string

	// Compose returns the next beat. It must not wait for anything.
	Compose func() Beat

	// Handle, if set, is called with each answer, on the loop's goroutine.
	Handle func(ctx context.Context, answer Answer)

	// Interval is the time between beats, from MinInterval to MaxInterval;
	// while a benchmark runs it is at least MinRunningInterval. Defaults to
	// DefaultInterval.
	Interval time.Duration

	// Logger receives what an operator wants to know. Defaults to none.
	Logger *slog.Logger
}

// A Loop registers an agent and sends its heartbeats.
type Loop struct {
	cfg    Config
	log    *slog.Logger
	nudges chan struct{}
	renew  atomic.Bool // whether to register again before the next beat

	planned chan struct{}  // says that extra has changed
	ended   base.Broadcast // sent when an attempt has ended

	mu       sync.Mutex
	interval time.Duration // guarded by mu, like all that follows
	state    State
	extra    []time.Time // when NudgeIn wants beats
	unproved bool        // whether an answer named AgentID, and no beat with it got through yet
	busy     bool        // whether a benchmark runs, as the last beat said
	begun    int         // attempts so far
	done     int         // the latest that has ended,
	outcome  error       // and its error
}

// State describes a Loop at one moment.
type State struct {
	AgentID    string        // the server's id for the agent; empty before it gave one
	Registered bool          // whether a registration or a beat went through
	Interval   time.Duration // in force while idle
	LastBeat   time.Time     // when the last beat went through; zero before that
	LastError  string        // why the last attempt failed; empty if it didn't
	FailingFor int           // attempts that failed since the last that went through

	// Accepted, Failed and Refused count attempts since New: that went through, that
	// did not reach the server, and that it refused.
	Accepted, Failed, Refused int64

	// Refusal is what the server said when it last refused the agent. Empty if it
	// didn't, or once a beat got through; an outage leaves it.
	Refusal string

	// Due is when the current step ends at the latest. A step that takes longer
	// ignores its deadline, and the loop is stuck. Zero while Run isn't running.
	Due time.Time
}

// New returns a loop that sends heartbeats once Run is called.
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
	return &Loop{cfg: cfg, log: cfg.Logger, interval: cfg.Interval, nudges: make(chan struct{}, 1), planned: make(chan struct{}, 1)}, nil
}

func checkInterval(d time.Duration) error {
	if d < MinInterval || d > MaxInterval {
		return fmt.Errorf("interval of %s is not within %s and %s", d, MinInterval, MaxInterval)
	}
	return nil
}

// SetInterval changes the time between beats, starting with the next wait. If d is
// out of bounds it changes nothing and returns an error.
func (l *Loop) SetInterval(d time.Duration) error {
	if err := checkInterval(d); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.interval = d
	return nil
}

// Nudge requests a beat now, as when a job starts or ends. It never waits.
func (l *Loop) Nudge() {
	select {
	case l.nudges <- struct{}{}:
	default: // one is requested already
	}
}

// Renew requests a new registration and a beat now, as when the machine has
// changed. It never waits.
func (l *Loop) Renew() {
	l.renew.Store(true)
	l.Nudge()
}

// State returns the loop's state now.
func (l *Loop) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.state
	s.Interval = l.interval
	return s
}

// Run registers the agent and sends heartbeats until ctx is done. It returns nil.
func (l *Loop) Run(ctx context.Context) error {
	defer l.ended.Send()
	defer l.clearDue()
	retry := newRetry()
	known := false // whether the server is believed to know the agent
	var sent Beat
	for ctx.Err() == nil {
		var wait time.Duration
		l.begin()
		err := l.attempt(ctx, &known, &sent)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			wait = retry.NextBackOff()
			if isRefusal(err) {
				wait = refusedWait + rand.N(refusedWait)
			}
			l.failed(ctx, err)
		} else {
			retry.Reset()
			l.succeeded(ctx)
			l.withdraw(sent)
			wait = l.wait(sent)
		}
		l.finish(err)
		l.pause(ctx, wait)
	}
	return nil
}

// newRetry returns the waits between failed attempts.
func newRetry() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = 2 * time.Second
	// Only enough to spread agents: the longer the shortest wait is, the fewer
	// come at the same time when a server is back.
	b.RandomizationFactor = 0.25
	b.Multiplier = 2
	b.MaxInterval = maxRetry
	return b
}

// attempt registers if needed and sends one beat. If the server has forgotten the
// agent it does both once more.
func (l *Loop) attempt(ctx context.Context, known *bool, sent *Beat) error {
	for try := range 2 {
		if !*known || l.renew.Load() {
			l.renew.Store(false) // before, so that what changes meanwhile counts
			*known = false
			if err := l.register(ctx); err != nil {
				return fmt.Errorf("register: %w", err)
			}
			*known = true
		}
		answer, err := l.beat(ctx, sent)
		if errors.Is(err, ErrUnknownAgent) {
			*known = false
			if try == 0 {
				l.log.InfoContext(ctx, "server does not know this agent, registering again")
				continue
			}
		}
		if err != nil {
			if l.dropUnproved() {
				*known = false // a registration says which id is right
			}
			return fmt.Errorf("heartbeat: %w", err)
		}
		l.setAgentID(ctx, answer.AgentID)
		if l.cfg.Handle != nil {
			l.setDue(callTimeout)
			l.cfg.Handle(ctx, answer)
		}
		return nil
	}
	return nil
}

// setDue sets the deadline of the step that begins: d from now.
func (l *Loop) setDue(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.Due = time.Now().Add(d + lateness)
}

// clearDue says that no step is in progress.
func (l *Loop) clearDue() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.Due = time.Time{}
}

func (l *Loop) beat(ctx context.Context, sent *Beat) (Answer, error) {
	l.setDue(callTimeout)
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	*sent = l.cfg.Compose()
	return l.cfg.Client.Heartbeat(ctx, l.id(), *sent)
}

func (l *Loop) register(ctx context.Context) error {
	l.setDue(callTimeout)
	calling, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	id, interval, err := l.cfg.Client.Register(calling)
	if err != nil {
		return err
	}
	if !isID(id) {
		return fmt.Errorf("the server named an agent id that no address can hold: %q", base.Printable(id, 80))
	}
	l.mu.Lock()
	l.state.AgentID, l.unproved = id, false
	l.mu.Unlock()
	l.log.InfoContext(ctx, "registered", "agent_id", id)
	if interval > 0 && l.cfg.Interval == DefaultInterval {
		// A proposal that makes no sense leaves the interval as it is.
		_ = l.SetInterval(interval)
	}
	return nil
}

// setAgentID stores the server's id for the agent, as an answer to a heartbeat names it.
// The id before has proved itself by that heartbeat; a new one has yet to.
func (l *Loop) setAgentID(ctx context.Context, id string) {
	if id == "" {
		return
	}
	usable := isID(id)
	l.mu.Lock()
	before := l.state.AgentID
	l.unproved = usable && id != before
	if usable {
		l.state.AgentID = id
	}
	l.mu.Unlock()
	if !usable {
		l.log.WarnContext(ctx, "agent id in a heartbeat's answer ignored, since no address can hold it", "agent_id", base.Printable(id, 80))
	}
}

// dropUnproved forgets an id that the latest answer named and with which no heartbeat
// got through. Until the next registration the agent's name stands for it.
func (l *Loop) dropUnproved() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.unproved {
		return false
	}
	l.unproved = false
	l.state.AgentID = ""
	return true
}

// maxID bounds an agent's id, in bytes. The server's own have 16.
const maxID = 128

// isID reports whether id can stand in the server's addresses.
func isID(id string) bool {
	ok := func(r rune) bool { return r > ' ' && r != '/' && r != utf8.RuneError && unicode.IsPrint(r) }
	return id != "" && id != "." && id != ".." && len(id) <= maxID && !strings.ContainsFunc(id, func(r rune) bool { return !ok(r) })
}

func (l *Loop) id() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state.AgentID != "" {
		return l.state.AgentID
	}
	return l.cfg.Name
}

// isRefusal reports whether the server itself rejected the request, in contrast to
// an outage.
func isRefusal(err error) bool {
	var r interface{ Rejected() bool }
	return errors.As(err, &r) && r.Rejected()
}

// rejects reports whether err is an answer that lets the agent do nothing: a
// refusal, or one of those that are retried like an outage.
func rejects(err error) bool {
	return isRefusal(err) || errors.Is(err, ErrUnauthorized) || errors.Is(err, ErrUnknownAgent)
}

// failed records a failed attempt. The first of several, and one with a new
// reason, is logged as a warning. The others would only fill the log.
func (l *Loop) failed(ctx context.Context, err error) {
	refused := rejects(err)
	l.mu.Lock()
	first := l.state.LastError != err.Error()
	l.state.LastError = err.Error()
	l.state.FailingFor++
	if refused {
		l.state.Refusal = err.Error()
		l.state.Refused++
	} else {
		l.state.Failed++
	}
	l.mu.Unlock()
	switch {
	case first && refused:
		l.log.WarnContext(ctx, "server refuses this agent, retrying", "err", err)
	case first:
		l.log.WarnContext(ctx, "server not reached, retrying", "err", err)
	default:
		l.log.DebugContext(ctx, "server still not reached", "err", err)
	}
}

func (l *Loop) succeeded(ctx context.Context) {
	l.mu.Lock()
	before := l.state
	l.state.Registered = true
	l.state.LastBeat = time.Now()
	l.state.Accepted++
	l.state.LastError = ""
	l.state.FailingFor = 0
	l.state.Refusal = ""
	l.mu.Unlock()
	if before.FailingFor > 0 {
		l.log.InfoContext(ctx, "server reached again", "failed_attempts", before.FailingFor)
	}
}

// wait returns the time until the next beat, after the server has accepted sent.
func (l *Loop) wait(sent Beat) time.Duration {
	l.mu.Lock()
	d := l.interval
	l.mu.Unlock()
	d -= rand.N(d / intervalShare)
	if sent.isBusy() {
		d = max(d, MinRunningInterval+rand.N(MinRunningInterval/intervalShare))
	}
	return d
}

// pause waits for d, a beat of NudgeIn, a nudge or the end of ctx. Nudges are spaced,
// so that jobs that end at the same time cause no burst of beats.
func (l *Loop) pause(ctx context.Context, d time.Duration) {
	l.setDue(d)
	end := time.Now().Add(d)
	defer l.dropPast()
	for {
		timer := time.NewTimer(l.untilNext(end))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-l.planned:
			timer.Stop()
			continue
		case <-l.nudges:
			_ = base.Wait(ctx, min(nudgeSpacing, d))
			select { // one beat answers every nudge up to now
			case <-l.nudges:
			default:
			}
		}
		timer.Stop()
		return
	}
}
