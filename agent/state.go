package agent

import "github.com/kirizan/kitt-agent/agent/internal/jobs"

// A State is a step in a job's life:
//
//	accepted → preparing → running → finishing → completed | failed | cancelled
//
// Its method Ended reports whether no other state follows, Active whether the job
// holds a slot of the queue.
type State = jobs.State

// The states of a job.
const (
	StateAccepted  = jobs.StateAccepted  // on disk, waiting in the queue
	StatePreparing = jobs.StatePreparing // its model is being fetched
	StateRunning   = jobs.StateRunning   // handed to the Runner
	StateFinishing = jobs.StateFinishing // it ended; the result is being made
	StateCompleted = jobs.StateCompleted // ended well
	StateFailed    = jobs.StateFailed    // ended badly
	StateCancelled = jobs.StateCancelled // stopped on request
)
