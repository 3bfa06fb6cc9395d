// Package outbox tells the server what becomes of jobs: for each job that it runs,
// every line of its log, its result, and last its final status, in this order and
// each once.
//
// One goroutine per job sends its reports, one after another (sender.go). It works
// from what is on disk and never holds up the job. What the server has accepted is
// in the job's checkpoint file, so that the next start continues from there; when
// the answer to a request was lost, the server is asked what it holds.
//
//	checkpoint.go  what the server has accepted of one job, on disk
//	sender.go      one job's reports, in order
//	report.go      one report: retries, doubts, reduced forms
//	trial.go       when a report that fails counts as refused, and others not
//	logsender.go   the log, line by line, or joined (batch.go) when single requests
//	               could not catch up with the lines that wait (pacer.go)
//	result.go      the result, sent from its file (resultfile.go)
//	breaker.go     the common view of whether the server can be reached
//	rejected.go    what becomes of a report that the server rejects
//
// The final status comes last, so that whoever sees the test ended finds all the
// rest there. While the server is away one request at a time probes it, and few
// ended jobs send at the same time when it is back.
//
// No lock of this package is held during disk or network operations, except that
// of one job's checkpoint file while it is written. This package knows jobs and a
// Reporter. It knows neither runners nor the agent.
package outbox
