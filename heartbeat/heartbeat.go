// Package heartbeat schedules an agent's heartbeats and hands their answers on.
//
// A [Loop] registers the agent, then sends heartbeats until its context ends. The
// waits follow from the server's rules: it shows an agent as offline after 90 s
// without a heartbeat.
//
//	after                     wait
//	a successful beat         Interval, from 10 s to 300 s, shortened by up to a tenth
//	the same while running    the same, but at least 60 s to 66 s
//	a failed beat             2 s, growing to 24 s, each varied by a quarter: never over 30 s
//	a refused registration    30 s to 60 s
//	[Loop.Nudge], Renew, Beat none, but at least 100 ms after the beat before
//	[Loop.NudgeIn]            as asked for, unless a benchmark runs
//
// The variation spreads agents that were started together. It shortens intervals;
// the minimum while a benchmark runs is lengthened instead, since it is a lower
// bound and far from the 90 s. If the server doesn't know the agent, the loop
// registers again and sends one more beat.
package heartbeat

import (
	"encoding/json"
	"errors"
	"time"
)

// A Beat is the content of one heartbeat. A nil field is unknown and is not sent.
type Beat struct {
	Status         string   // StatusIdle, StatusRunning or StatusError
	Task           string   // the test or job in progress; empty for none
	GPUUtilPct     *float64 // mean over all GPUs, 0 to 100
	GPUMemoryBytes *int64   // in use, summed over all GPUs
	StorageFree    *int64   // bytes free where models are kept
	Uptime         time.Duration
	Engines        []Engine

	// Busy reports whether a benchmark runs, whatever Status says: beats are
	// rarer then. StatusRunning implies it. It is not sent.
	Busy bool
}

// isBusy reports whether a benchmark runs.
func (b Beat) isBusy() bool { return b.Busy || b.Status == StatusRunning }

// Values of Beat.Status.
const (
	StatusIdle    = "idle"
	StatusRunning = "running"
	StatusError   = "error"
)

// An Engine is the state of an inference engine installed on the machine itself,
// in the form of the KITT protocol.
type Engine struct {
	Engine     string `json:"engine"`
	Installed  bool   `json:"installed"`
	BinaryPath string `json:"binary_path"`
	Version    string `json:"version"`
	Running    bool   `json:"running"`
	PID        int    `json:"pid"`
	Port       int    `json:"port"`
}

// An Answer is the server's answer to a heartbeat.
type Answer struct {
	AgentID  string            // the server's own id for the agent; empty if it named none
	Commands []Command         // at most one in KITT 1.7.0
	Settings map[string]string // as the server wrote them; nil if it sent none
}

// A Command is a request from the server or an operator.
type Command struct {
	ID      string          `json:"command_id"`
	TestID  string          `json:"test_id"`
	Type    string          `json:"type"`
	Payload json.RawMessage `json:"payload"` // never trusted
}

// ErrUnknownAgent is matched by the error of a heartbeat to which the server
// itself, not a proxy, answered that it knows no such agent.
var ErrUnknownAgent = errors.New("the server does not know this agent")

// ErrUnauthorized is matched by the error of a call that was answered with the
// demand for a token (HTTP 401). It is retried like an outage, since a proxy may
// be the one that asks.
var ErrUnauthorized = errors.New("not authorized")
