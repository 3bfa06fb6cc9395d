package jobs

import "slices"

// A State is a step in a job's life:
//
//	state      means                          a crash here leads to
//	accepted   on disk, waiting in the queue  waiting again, in the same order
//	preparing  its model is being fetched     preparing again; nothing ran yet
//	running    handed to the Runner           Resume: the run continues, its log
//	                                          from the next byte; a run without
//	                                          a trace fails, it never runs twice
//	finishing  it ended; result being made    finishing again, from the files
//	completed  ended well                     ┐
//	failed     ended badly                    ├ what is undelivered is delivered
//	cancelled  stopped on request             ┘
//
//	accepted → preparing → running → finishing → completed | failed | cancelled
//	    └──────────┴──────────────────────────────────────▶ failed | cancelled
//
// A cleanup has no run: it goes from preparing to finishing.
type State string

// The states of a job.
const (
	StateAccepted  State = "accepted"
	StatePreparing State = "preparing"
	StateRunning   State = "running"
	StateFinishing State = "finishing"
	StateCompleted State = "completed"
	StateFailed    State = "failed"
	StateCancelled State = "cancelled"
)

// next holds the states that may follow each one.
var next = map[State][]State{
	StateAccepted:  {StatePreparing, StateFailed, StateCancelled},
	StatePreparing: {StateRunning, StateFinishing, StateFailed, StateCancelled},
	StateRunning:   {StateFinishing},
	StateFinishing: {StateCompleted, StateFailed, StateCancelled},
	StateCompleted: nil,
	StateFailed:    nil,
	StateCancelled: nil,
}

// Ended reports whether no other state follows this one.
func (s State) Ended() bool {
	return s == StateCompleted || s == StateFailed || s == StateCancelled
}

// Active reports whether a job in this state holds a slot of the queue.
func (s State) Active() bool {
	return s == StatePreparing || s == StateRunning || s == StateFinishing
}

// Valid reports whether s is one of the states.
func (s State) Valid() bool {
	_, ok := next[s]
	return ok
}

// mayFollow reports whether a job may go from s to to.
func (s State) mayFollow(to State) bool { return slices.Contains(next[s], to) }
