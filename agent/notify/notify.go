// Package notify tells a web hook what the operator of an agent wants to know: a job
// failed, the agent is degraded, it has recovered.
//
//	n, err := notify.New(notify.Config{URL: url, Dir: dir})
//	events := a.Events(ctx) // before Run, so that none is missed
//	go n.Run(ctx, a, events)
//	err = a.Run(ctx)
//
// A [Notification] is made when something changes, and only then: once for each job, and
// once when a problem of package health begins or ends. A problem has to last for a
// minute, and so has its absence. What was made is in a file in Config.Dir before it is
// sent, with what was known then, so a restart repeats nothing and misses nothing.
//
// A receiver that is away, slow or broken is tried again, less and less often, for three
// days. Notifications arrive in order. One whose answer is lost is sent again with the
// same ID. No more than Config.PerHour are sent in an hour; of those that wait, the
// latest are kept, and the next one says how many are missing.
package notify

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/health"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/logstream"
)

// An Event is what a notification is about.
type Event string

// The events.
const (
	JobFailed    Event = "job-failed"
	JobCompleted Event = "job-completed"
	JobCancelled Event = "job-cancelled"

	// IntegrityInvalid is about a job that completed on a machine that was not fit to be
	// measured; see package integrity.
	IntegrityInvalid Event = "integrity-invalid"

	Degraded  Event = "degraded"  // a problem of package health began
	Recovered Event = "recovered" // such a problem is over
	Test      Event = "test"      // of Notifier.Test; always sent
)

// Events returns all events that Config.Events may name.
func Events() []Event {
	return []Event{JobFailed, JobCompleted, JobCancelled, IntegrityInvalid, Degraded, Recovered}
}

// DefaultEvents returns those that are sent unless Config.Events names others.
func DefaultEvents() []Event { return []Event{JobFailed, IntegrityInvalid, Degraded, Recovered} }

const (
	// DefaultPerHour is how many notifications are sent in an hour at most unless
	// Config.PerHour says otherwise.
	DefaultPerHour = 30

	// MaxPerHour is the largest Config.PerHour.
	MaxPerHour = 1000
)

const stateFile = "notify.json" // in Config.Dir

// Config says what a Notifier sends where. URL and Dir are required.
type Config struct {
	// URL is where notifications are posted to, http or https. It is a secret: that of a
	// chat's web hook lets everybody write there.
	URL agent.Secret

	// Key signs notifications, if set, as Standard Webhooks 1.0.0 does: the header
	// webhook-signature has v1, a comma and the HMAC-SHA256 of id, time and body, in
	// base64. A key that begins with whsec_ is base64 after that.
	Key agent.Secret

	// Format is the form of a notification. Defaults to JSON.
	Format Format

	// Events are what is sent. Defaults to DefaultEvents.
	Events []Event

	// PerHour is how many notifications are sent in an hour at most, from 1 to
	// MaxPerHour. Defaults to DefaultPerHour.
	PerHour int

	// Dir is where the file notify.json is kept. One Notifier at a time uses it.
	Dir string

	// Secrets are texts that no notification contains.
	Secrets []string

	// Transport makes the requests. Defaults to http.DefaultTransport.
	Transport http.RoundTripper

	// Logger receives what an operator wants to know. Defaults to none.
	Logger *slog.Logger
}

// An Agent is what notifications are about. An [*agent.Agent] is one.
type Agent interface {
	// Status returns the agent's status; Jobs that of all its jobs, Job that of one.
	Status() agent.Status
	Jobs() []agent.JobStatus
	Job(id string) (agent.JobStatus, error)

	// Problems returns what is wrong with the agent.
	Problems() []health.Problem

	// LogTail returns the last lines of a job's log, at most n.
	LogTail(ctx context.Context, id string, n int) ([]string, error)
}

var _ Agent = (*agent.Agent)(nil)

// A Notifier sends the notifications of one agent. Its methods are safe for concurrent
// use.
type Notifier struct {
	cfg     Config
	log     *slog.Logger
	secrets logstream.Redactor
	client  *http.Client
	state   *state
	added   base.Broadcast // sent when a notification was added

	mu      sync.Mutex
	failing string // why the receiver does not take notifications; empty if it does
	since   time.Time
}

// New returns a notifier that does nothing until Run is called. It reports all that is
// wrong with cfg at once. Its errors do not show the URL.
func New(cfg Config) (*Notifier, error) {
	if cfg.Format == "" {
		cfg.Format = JSON
	}
	if len(cfg.Events) == 0 {
		cfg.Events = DefaultEvents()
	}
	if cfg.PerHour == 0 {
		cfg.PerHour = DefaultPerHour
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("notify: %w", err)
	}
	return &Notifier{
		cfg: cfg, log: cfg.Logger,
		secrets: logstream.NewRedactor(append(slices.Clone(cfg.Secrets), cfg.URL.Reveal(), cfg.Key.Reveal())),
		client: &http.Client{
			Transport: cfg.Transport, Timeout: sendTimeout,
			// A redirect would repeat the request without its body, or elsewhere.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		state: &state{path: filepath.Join(cfg.Dir, stateFile), log: cfg.Logger},
	}, nil
}

func (cfg Config) validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if u, err := url.Parse(cfg.URL.Reveal()); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		fault("URL is not an http or https address")
	}
	if _, err := signingKey(cfg.Key); err != nil {
		fault("Key: %w", err)
	}
	if !slices.Contains(Formats(), cfg.Format) {
		fault("Format %q is not one of %v", cfg.Format, Formats())
	}
	for _, e := range cfg.Events {
		if !slices.Contains(Events(), e) {
			fault("Events: %q is not one of %v", e, Events())
		}
	}
	if cfg.PerHour < 1 || cfg.PerHour > MaxPerHour {
		fault("PerHour is %d, not from 1 to %d", cfg.PerHour, MaxPerHour)
	}
	if cfg.Dir == "" {
		fault("Dir is empty")
	}
	return errors.Join(faults...)
}

// Run sends what there is to tell of a until ctx is done. It returns once all that it
// started has ended; what was not sent yet is sent by the next Run. It is called once.
func (n *Notifier) Run(ctx context.Context, a Agent, events iter.Seq[agent.Event]) {
	n.state.load(time.Now())
	var running sync.WaitGroup
	running.Go(func() { n.watchJobs(ctx, a, events) })
	running.Go(func() { n.watchProblems(ctx, a) })
	running.Go(func() { n.sendAll(ctx) })
	running.Wait()
}

// Test sends a notification that says that it is a test, for the agent with this name,
// and returns why the receiver did not take it. It is sent once, and needs no Run.
func (n *Notifier) Test(ctx context.Context, name string) error {
	note := n.note(Test, name, "", time.Now())
	note.Title = name + ": test"
	note.Cause = "somebody wants to know whether notifications of this agent arrive"
	return n.send(ctx, n.redacted(note), 0)
}

// Warnings returns a sentence if the receiver does not take notifications.
func (n *Notifier) Warnings() []string {
	n.mu.Lock()
	failing, since := n.failing, n.since
	n.mu.Unlock()
	if failing == "" {
		return nil
	}
	return []string{fmt.Sprintf("Notifications have not been taken for %s, and %d wait: %s; check notify.url in agent.yaml and the receiver",
		time.Since(since).Round(time.Second), n.state.waiting(), failing)}
}

// setFailing records why the last attempt failed, empty for success, and logs the first
// failure and the recovery.
func (n *Notifier) setFailing(reason string) {
	n.mu.Lock()
	before := n.failing
	if before == "" {
		n.since = time.Now()
	}
	n.failing = reason
	n.mu.Unlock()
	switch {
	case before == "" && reason != "":
		n.log.Warn("notification not taken, trying again later", "err", reason)
	case before != "" && reason == "":
		n.log.Info("notifications are taken again")
	}
}
