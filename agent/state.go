package agent

import "slices"

// State is where a job stands; see the package comment for what each means.
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

// Active reports whether a job in this state has its turn.
func (s State) Active() bool {
	return s == StatePreparing || s == StateRunning || s == StateFinishing
}

// valid reports whether s is one of the states.
func (s State) valid() bool {
	_, ok := next[s]
	return ok
}

// mayFollow reports whether a job may go from s to to.
func (s State) mayFollow(to State) bool { return slices.Contains(next[s], to) }

// wireStatus returns the word that the KITT protocol has for an ended state; it
// has none for cancelled.
func (s State) wireStatus() string {
	if s == StateCompleted {
		return statusCompleted
	}
	return statusFailed
}

// The words of the KITT protocol for a test's status that an agent may use.
const (
	statusRunning   = "running"
	statusCompleted = "completed"
	statusFailed    = "failed"
)
