package supervisor

// Exit statuses of Main other than the benchmark's own. The engine's report is a
// hint, so an agent that reads the files doesn't need them.
const (
	// StatusDone is that of a container whose benchmark succeeded. It isn't 0: an
	// agent older than the supervisor would take that for a success whose output
	// it has read.
	StatusDone = 113

	StatusTaken  = 114 // the benchmark was begun before
	StatusFailed = 115 // it could not be begun, or how it ended could not be written
)

// CheckWord is what Main prints for the argument -check, by which an agent sees
// that a file is a supervisor that this machine can run.
const CheckWord = "kitt-supervise 1"
