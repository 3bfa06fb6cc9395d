// Package agent composes a KITT agent: it registers with a server, takes
// benchmark jobs from the answers to its heartbeats, runs them one at a time,
// streams their logs and reports their results.
//
// An [Agent] is made of interfaces: a [Server] to take work from, a [Reporter]
// to tell, a runner.Runner that runs benchmarks, a storage.Storage that brings
// models and a hwdetect.Detector that knows the machine. Agent.Run blocks until
// its context ends and everything that it started has stopped.
//
// # A job's directory
//
// Each command becomes a job, and each job a directory below Config.Dir/jobs.
// The directory is the only truth about the job; memory is a cache of it.
//
//	command.json  what was asked, as it came; written once, before the command
//	              is acknowledged
//	job.json      what became of it: the state below; each change is written
//	              to disk before anything is done about it
//	log           the job's log (package logstream); compressed once delivered
//	results/      what the benchmark wrote, with metrics.json
//	result.json   the report that goes to the server
//	delivery      what the server has accepted so far
//	docker/ …     what the runner needs to find its run again
//
// # States of a job
//
//	state      means                          a crash here leads to
//	accepted   on disk, waiting its turn      waiting again, in the same order
//	preparing  its model is being fetched     preparing again; nothing ran yet
//	running    handed to the Runner           Resume: the run goes on, its log
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
//
// # Jobs that cannot be read
//
// If command.json or job.json cannot be read at the start, what is known is
// written again and the job fails: the directory's name is the command's id, the
// test's id stands in both files, and the server is asked for it where both are
// lost. Before any other job begins, the benchmark that it may have left running
// is ended, through what the runner keeps in the directory or by the command's
// id. The files that could not be read stay, under another name.
//
// Every change of state goes through job.transition, which refuses any other,
// writes first and acts second. The order of a job's life is in life.go, from
// the first state to the last; what is told to the server, and when, is in
// deliver.go and ship.go; what is picked up again at start is in recover.go and repair.go.
//
// # Stopping
//
// When the context of Run ends, the agent takes no more commands, lets go of
// running benchmarks that can be resumed (they go on, and the next agent finds
// them), ends those that cannot, spends up to Config.DrainTimeout on delivering
// what can still be delivered, and returns once nothing of its own runs any
// more. Agent.Drain and Agent.CancelAll, called before, make it wait for the
// running benchmark or end it instead.
package agent
