package notify

import (
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/health"
	"github.com/kirizan/kitt-agent/internal/base"
)

const (
	stateVersion = 1
	maxState     = 8 << 20 // bytes of the file
	maxWaiting   = 100     // notifications that wait
	maxKnown     = 1000    // jobs that are remembered by id
)

// saved is the content of the file. Keys are only added.
type saved struct {
	Version int                         `json:"version"`
	Through time.Time                   `json:"through"` // every job that ended up to then is known
	Known   []string                    `json:"known"`   // ids of the latest known jobs, oldest first
	Told    map[health.Reason]time.Time `json:"told"`    // problems that began, and when that was told
	Waiting []*Notification             `json:"waiting"` // in order
	Missed  int                         `json:"missed"`  // notifications that found no room
	Sent    []time.Time                 `json:"sent"`    // within the last hour
}

// A state is what a notifier knows and has yet to send, in memory and in a file. After a
// change it is in the file, unless the disk refuses that, which is logged: then a restart
// forgets the change. Its methods are safe for concurrent use.
type state struct {
	path string
	log  *slog.Logger

	writing sync.Mutex // held while the file is written, so that an older state does not follow a newer one

	mu      sync.Mutex
	now     saved // guarded by mu. Maps, slices and notifications in it are never changed in place
	refused bool  // whether the disk refused the last write. guarded by mu
}

// load reads the file. Without one, everything that has happened before now is known.
func (s *state) load(now time.Time) {
	var read saved
	err := base.ReadJSON(s.path, &read, maxState)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.log.Warn("what waits to be notified could not be read; starting without it", "err", err)
		}
		read = saved{Through: now}
	}
	read.Version = stateVersion
	read.Waiting = slices.DeleteFunc(read.Waiting, func(n *Notification) bool { return n == nil })
	s.mu.Lock()
	s.now = read
	s.mu.Unlock()
	s.save()
}

// knows reports whether j was handled before.
func (s *state) knows(j agent.JobStatus) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !j.EndedAt.After(s.now.Through) || slices.Contains(s.now.Known, j.CommandID)
}

// addJob remembers j, and adds note unless j is known or note is nil. It reports whether
// it added it.
func (s *state) addJob(j agent.JobStatus, note *Notification) bool {
	return s.change(func(now *saved) bool {
		if slices.Contains(now.Known, j.CommandID) {
			return false
		}
		known := append(slices.Clone(now.Known), j.CommandID)
		now.Known = known[max(0, len(known)-maxKnown):]
		if j.EndedAt.After(now.Through) {
			now.Through = j.EndedAt
		}
		return now.add(note)
	})
}

// told returns the problems that were told to have begun.
func (s *state) told() map[health.Reason]time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now.Told
}

// setTold remembers that a problem began or ended, and adds note unless it is nil.
func (s *state) setTold(reason health.Reason, began bool, note *Notification) bool {
	return s.change(func(now *saved) bool {
		told := maps.Clone(now.Told)
		if told == nil {
			told = map[health.Reason]time.Time{}
		}
		delete(told, reason)
		if began {
			told[reason] = time.Now()
		}
		now.Told = told
		return now.add(note)
	})
}

// add adds note to those that wait, and drops the oldest if they are too many.
func (now *saved) add(note *Notification) bool {
	if note == nil {
		return false
	}
	waiting := append(slices.Clone(now.Waiting), note)
	if extra := len(waiting) - maxWaiting; extra > 0 {
		waiting = waiting[extra:]
		now.Missed += extra
	}
	now.Waiting = waiting
	return true
}

// first returns the notification that is to be sent next, nil if there is none, and how
// many before it are missing.
func (s *state) first() (*Notification, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.now.Waiting) == 0 {
		return nil, 0
	}
	return s.now.Waiting[0], s.now.Missed
}

// done removes note, and counts it and the missing ones as sent if it was.
func (s *state) done(note *Notification, missed int, sent bool) {
	s.change(func(now *saved) bool {
		now.Waiting = slices.DeleteFunc(slices.Clone(now.Waiting), func(n *Notification) bool { return n.ID == note.ID })
		if sent {
			now.Missed -= missed
			now.Sent = append(slices.Clone(now.Sent), time.Now())
		} else {
			now.Missed++
		}
		return true
	})
}

// quota returns how long it takes until one more may be sent: no more than most in an
// hour.
func (s *state) quota(most int, now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.Sent = slices.DeleteFunc(slices.Clone(s.now.Sent), func(t time.Time) bool { return now.Sub(t) >= time.Hour || t.After(now) })
	if len(s.now.Sent) < most {
		return 0
	}
	return time.Hour - now.Sub(s.now.Sent[len(s.now.Sent)-most])
}

func (s *state) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.now.Waiting)
}

// change changes the state and writes it. It returns what apply does.
func (s *state) change(apply func(*saved) bool) bool {
	s.mu.Lock()
	result := apply(&s.now)
	s.mu.Unlock()
	s.save()
	return result
}

// save writes the state as it is now.
func (s *state) save() {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	now, before := s.now, s.refused
	s.mu.Unlock()
	err := base.WriteJSON(s.path, now, maxState)
	if err != nil && !before {
		s.log.Warn("what waits to be notified could not be written; a restart forgets or repeats it", "err", err)
	}
	s.mu.Lock()
	s.refused = err != nil
	s.mu.Unlock()
}
