// Package jobs keeps jobs on disk. A job is one accepted command: what was asked,
// what became of it, and its log.
//
// # A job's directory
//
// The directory is the only source of truth about a job; memory is a cache of it.
// A [Store] holds them all, each named for its command's id:
//
//	command.json  what was asked; written once, before the command is acknowledged
//	job.json      what became of it: a [Record]. Each change is written to disk
//	              before anything is done about it
//	log           the job's log (package logstream); compressed once delivered
//	results/      what the benchmark wrote
//	integrity.json, telemetry.csv  whether the machine was fit to be measured
//	              (package integrity); copied to results/ after the end
//	result.json   the report that goes to the server (package outbox)
//	delivery      what the server has accepted so far (package outbox)
//	docker/ …     what the runner needs to find its run again
//
// A new directory appears under its name by one rename, when it is complete, and
// disappears by one.
//
// # Jobs that cannot be read
//
// If command.json or job.json cannot be read, Load writes again what is known. A
// job that had not ended becomes one whose run is to be ended and that fails; see
// [Record.Abandoned]. The files that could not be read stay, under another name.
//
// # Locks
//
// Readers of a [Job] take no lock: its record is a copy that is published
// atomically. Writers of one job take turns, and hold the job's write lock while
// the disk works. No other lock of this package is held during disk operations,
// except for a log's own while the log is opened, closed or compressed; only
// those who want that log wait for it.
//
// This package knows the disk and logstream. It knows neither runners nor the
// server.
package jobs
