package agent

import (
	"context"
	"iter"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/storage"
)

// An EventKind says what an [Event] is about.
type EventKind string

// The kinds of events.
const (
	EventAccepted          EventKind = "accepted"           // a job is on disk
	EventState             EventKind = "state"              // a job has changed its state, and has not ended
	EventCopy              EventKind = "copy"               // the copy of a job's model has advanced
	EventEnded             EventKind = "ended"              // a job has ended; its result can be read
	EventDelivered         EventKind = "delivered"          // the server has accepted all reports of a job
	EventServerReachable   EventKind = "server-reachable"   // a request to the server got through, the first one or after an outage
	EventServerUnreachable EventKind = "server-unreachable" // one failed, the first of several
	EventLost              EventKind = "lost"               // events are missing here, because they were read too slowly
)

// An Event is something that happened to an agent.
type Event struct {
	Kind  EventKind
	Time  time.Time
	JobID string            // the command's id; empty if the event is about no job
	State State             // of the job
	Copy  *storage.Progress // of EventCopy
	Error string            // why the job failed, or the server is unreachable; may be empty
	Lost  int               // of EventLost: how many events are missing
}

// maxEvents is how many events wait for a reader before the next ones are lost.
const maxEvents = 1024

// Events returns the events of the agent from this call on, until ctx is done:
//
//	for e := range a.Events(ctx) { … }
//
// It can be called before Run. It never holds up the agent: a reader that is more than
// 1024 events behind loses some, and gets an EventLost in their place.
func (a *Agent) Events(ctx context.Context) iter.Seq[Event] {
	s := a.events.subscribe()
	unhook := context.AfterFunc(ctx, func() { a.events.unsubscribe(s) })
	return func(yield func(Event) bool) {
		defer a.events.unsubscribe(s)
		defer unhook()
		for {
			select {
			case <-ctx.Done():
				return
			case e := <-s.events:
				if !yield(e) {
					return
				}
			}
		}
	}
}

// An eventHub passes events to subscribers. Its zero value is ready, and its methods
// are safe for concurrent use and never block.
type eventHub struct {
	mu          sync.Mutex
	subscribers map[*subscriber]struct{} // guarded by mu
	unreachable *bool                    // what was last said of the server; nil before. guarded by mu
}

// A subscriber is one reader of events.
type subscriber struct {
	events chan Event
	lost   int // how many found events full since the last one that didn't. guarded by the hub's mu
}

// send passes e on if there is room, after an EventLost for those that had none.
func (s *subscriber) send(e Event) {
	if s.lost > 0 && s.trySend(Event{Kind: EventLost, Time: e.Time, Lost: s.lost}) {
		s.lost = 0
	}
	if s.lost > 0 || !s.trySend(e) {
		s.lost++
	}
}

func (s *subscriber) trySend(e Event) bool {
	select {
	case s.events <- e:
		return true
	default:
		return false
	}
}

func (h *eventHub) subscribe() *subscriber {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.subscribers == nil {
		h.subscribers = map[*subscriber]struct{}{}
	}
	s := &subscriber{events: make(chan Event, maxEvents)}
	h.subscribers[s] = struct{}{}
	return s
}

func (h *eventHub) unsubscribe(s *subscriber) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.subscribers, s)
}

// publish passes e, which happens now, to all subscribers.
func (h *eventHub) publish(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.publishLocked(e)
}

// publishLocked is publish. h.mu must be held.
func (h *eventHub) publishLocked(e Event) {
	e.Time = time.Now()
	for s := range h.subscribers {
		s.send(e)
	}
}

// jobEvent publishes an event about j as it is now.
func (h *eventHub) jobEvent(kind EventKind, j *jobs.Job) {
	rec := j.Record()
	e := Event{Kind: kind, JobID: j.ID, State: rec.State}
	if rec.Outcome != nil {
		e.Error = rec.Outcome.Error
	}
	h.publish(e)
}

// stateChanged publishes a change of j's state.
func (h *eventHub) stateChanged(j *jobs.Job) {
	kind := EventState
	if j.State().Ended() {
		kind = EventEnded
	}
	h.jobEvent(kind, j)
}

// copyAdvanced publishes how far the copy of j's model is.
func (h *eventHub) copyAdvanced(j *jobs.Job, p storage.Progress) {
	h.publish(Event{Kind: EventCopy, JobID: j.ID, State: j.State(), Copy: &p})
}

// serverAnswered publishes a change of whether the server can be reached. err is that
// of the latest request.
func (h *eventHub) serverAnswered(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	unreachable := err != nil
	if h.unreachable != nil && *h.unreachable == unreachable {
		return
	}
	h.unreachable = &unreachable
	e := Event{Kind: EventServerReachable}
	if err != nil {
		e = Event{Kind: EventServerUnreachable, Error: err.Error()}
	}
	h.publishLocked(e)
}
