// Package agent composes a KITT agent: it registers with a server, takes
// benchmark jobs from the answers to its heartbeats, runs them one at a time,
// streams their logs and reports their results.
//
// An [Agent] is made of interfaces: a [Server] that gives work, a reporter.Reporter
// that is told what becomes of it, a runner.Runner that runs benchmarks, a
// storage.Storage that brings models and a hwdetect.Detector that describes the
// machine. Agent.Run blocks until its context ends and everything that it started has
// stopped.
//
// # How it works
//
// An Agent is composed of parts, each with one task:
//
//	server.go             what the agent asks of a server
//	receiver.go           takes the server's commands, so that no heartbeat waits
//	submit.go             intake: a command becomes a job, on disk first; command.go
//	                      checks it
//	registry.go           all jobs, and who may use their files
//	recover.go            what a restart continues
//	duplicates.go         whether another agent uses the same name; identity.go and
//	                      beatfile.go what that is told by
//	reconcile.go          asks the server what heartbeats don't say
//	maintenance.go        what keeps the machine tidy
//	cancel.go             stops a job
//	settings.go           what the server may change
//	memory.go             what is remembered of the server from one start to the next
//	status.go             what the agent knows about itself
//	api.go                the HTTP API; access.go says who may use it, ready.go and
//	                      watchdog.go whether the agent works
//	internal/jobs         a job on disk: its files, states and log
//	internal/execution    one job from accepted to ended, and the queue
//	internal/outbox       what the server is told, in order, once
//	internal/hostmonitor  what is known about the machine
//	internal/notices      what an operator is told once
//
// Data flows one way: a command goes through the intake into the queue, the executor
// takes it through its states, the outbox reads the result from disk and sends it. None
// of the internal packages knows the agent.
//
// # Locks
//
// Each part guards its own fields and holds no lock while it calls another part, the
// disk or the network. Readers of a job's record, of the queue and of the latest
// readings of the machine never wait for either, so that status and cancel work while
// a disk hangs.
//
// # Stopping
//
// When the context of Run ends, the agent accepts no more commands. It detaches from
// running benchmarks that can be resumed (they keep running, and the next agent finds
// them), stops those that cannot, spends up to Config.DrainTimeout on delivering what
// can still be delivered, and returns once nothing of its own runs any more.
// Agent.Drain and Agent.CancelAll, called before, make it wait for the running
// benchmark or end it instead.
package agent
