// Package agent composes a KITT agent: it registers with a server, takes
// benchmark jobs from heartbeat answers, runs them one at a time, streams their
// logs and reports their results.
package agent
