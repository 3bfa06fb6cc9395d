package outbox

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/agent/internal/notices"
	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/logstream"
)

// Config says what an Outbox needs. All fields but Reporter are required.
type Config struct {
	// Reporter is what the outbox sends to. Without one nothing is sent, and a
	// job counts as delivered when it has ended.
	Reporter reporter.Reporter

	// AgentName is the agent's name at the server, AgentID the server's id for
	// it, or the name before there is one.
	AgentName string
	AgentID   func() string

	// Reachable reports whether the last heartbeat got through. Reregister asks
	// for a new registration, after the server forgot the agent.
	Reachable  func() bool
	Reregister func()

	// Heartbeat asks for a heartbeat now, whose outcome tells whether the server
	// refuses one report or is away. It never waits.
	Heartbeat func()

	// OpenLog opens a job's log. The outbox calls release once when done.
	OpenLog func(j *jobs.Job) (log *logstream.Log, release func(), err error)

	// Stopped is called when the server says that a job's test is over before
	// the job is.
	Stopped func(j *jobs.Job, test reporter.Test)

	// Delivered is called after the outbox has done what it can for a job.
	Delivered func(j *jobs.Job)

	Notices *notices.Board
	Logger  *slog.Logger
}

// slots is how many ended jobs send their reports at the same time. Few: when a
// server returns from an outage, an agent with a thousand waiting jobs must not
// meet it with a thousand requests.
const slots = 2

// An Outbox sends the reports of jobs. Its methods are safe for concurrent use.
type Outbox struct {
	cfg     Config
	log     *slog.Logger
	breaker *breaker
	slots   chan struct{} // holds a token for each ended job that sends

	mu      sync.Mutex
	pending []*jobs.Job           // that Run has not taken yet. guarded by mu
	status  map[*jobs.Job]*status // guarded by mu, with all that it points to
	added   base.Broadcast
}

// status is what memory holds about one job's delivery.
type status struct {
	delivered bool      // whether everything is accepted
	rejection string    // the server's reason for rejecting reports without permission
	retryAt   time.Time // when rejected reports are sent again; zero for never
	refused   string    // which parts the server has only in a reduced form
	stuck     string    // which report fails while heartbeats get through
	repeat    bool      // whether all reports are to be sent again
}

// New returns an outbox that sends nothing until Run is called.
func New(cfg Config) *Outbox {
	return &Outbox{
		cfg: cfg, log: cfg.Logger, breaker: newBreaker(),
		slots: make(chan struct{}, slots), status: map[*jobs.Job]*status{},
	}
}

// Run sends the reports of all jobs that are given to Deliver. Once drain is done,
// it sends what it can without waiting for anything that has yet to happen, and
// returns; no Deliver may follow. It returns at once when ctx is done.
func (o *Outbox) Run(ctx, drain context.Context) {
	var senders sync.WaitGroup
	defer senders.Wait()
	for {
		added := o.added.Wait()
		for _, j := range o.takePending() {
			senders.Go(func() { o.send(ctx, drain, j) })
		}
		select {
		case <-added:
		case <-drain.Done():
			for _, j := range o.takePending() {
				senders.Go(func() { o.send(ctx, drain, j) })
			}
			return
		case <-ctx.Done():
			return
		}
	}
}

func (o *Outbox) takePending() []*jobs.Job {
	o.mu.Lock()
	defer o.mu.Unlock()
	taken := o.pending
	o.pending = nil
	return taken
}

// Deliver has the reports of j sent, from now to its end. It never waits.
func (o *Outbox) Deliver(j *jobs.Job) {
	if o.cfg.Reporter == nil {
		return
	}
	o.mu.Lock()
	o.pending = append(o.pending, j)
	o.mu.Unlock()
	o.added.Send()
}

// Repeat has all reports of an ended job sent again that the server has lost, as when it
// was restored from a backup: for each the server is asked first what it holds. It does
// nothing unless the server had accepted all of them.
func (o *Outbox) Repeat(j *jobs.Job) {
	o.mu.Lock()
	s := o.status[j]
	lost := s != nil && s.delivered && j.TestID() != ""
	if lost {
		s.delivered, s.repeat = false, true
	}
	o.mu.Unlock()
	if lost {
		o.log.Warn("server has lost the reports of a job, sending them again", "job", j.ID)
		o.Deliver(j)
	}
}

// takeRepeat reports whether all reports of j are to be sent again, and forgets that.
func (o *Outbox) takeRepeat(j *jobs.Job) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.statusLocked(j)
	repeat := s.repeat
	s.repeat = false
	return repeat
}

// Recover delivers what is undelivered of a job that was read from disk, and
// reports whether there is any.
func (o *Outbox) Recover(j *jobs.Job) (undelivered bool) {
	known := peekCheckpoint(j.Path(jobs.DeliveryFile))
	o.setRefused(j, known)
	if j.State().Ended() && (o.cfg.Reporter == nil || known.complete()) {
		o.setDelivered(j, true)
		return false
	}
	o.Deliver(j)
	return true
}

// Delivered reports whether everything about a job that has ended is accepted.
func (o *Outbox) Delivered(j *jobs.Job) bool {
	if o.cfg.Reporter == nil {
		return j.State().Ended()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.status[j]
	return s != nil && s.delivered
}

// ResultAccepted reads from disk whether the server has accepted the job's result
// with its data.
func (o *Outbox) ResultAccepted(j *jobs.Job) bool {
	if o.cfg.Reporter == nil {
		return true
	}
	c := peekCheckpoint(j.Path(jobs.DeliveryFile))
	return c.Result && !c.RefusedData
}

// Refused says which parts of the job's reports the server has only in a reduced
// form, or does not take while it takes others, and why; empty for none.
func (o *Outbox) Refused(j *jobs.Job) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if s := o.status[j]; s != nil {
		return cmp.Or(s.stuck, s.refused)
	}
	return ""
}

func (o *Outbox) setStuck(j *jobs.Job, text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.statusLocked(j).stuck = text
}

func (o *Outbox) setRefused(j *jobs.Job, c checkpoint) {
	text := c.refused()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.statusLocked(j).refused = text
}

// Forget drops what memory holds about a job that is removed.
func (o *Outbox) Forget(j *jobs.Job) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.status, j)
}

// Saw tells the outbox the outcome of a request that was made elsewhere, such as a
// heartbeat.
func (o *Outbox) Saw(err error) { o.breaker.saw(err) }

// statusLocked returns the status of j, which it makes if there is none. o.mu must
// be held.
func (o *Outbox) statusLocked(j *jobs.Job) *status {
	s := o.status[j]
	if s == nil {
		s = &status{}
		o.status[j] = s
	}
	return s
}

func (o *Outbox) setDelivered(j *jobs.Job, delivered bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.statusLocked(j).delivered = delivered
}
