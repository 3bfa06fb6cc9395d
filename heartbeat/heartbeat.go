// Package heartbeat decides when an agent speaks to its server, what it says
// and what becomes of the answer.
//
// A [Loop] registers the agent, then beats until its context ends. The waits
// follow the server's habits, where an agent that was silent for 90 s is shown
// as offline:
//
//	after                     wait
//	a beat that went through  Interval, from 10 s to 300 s, shortened by up to a tenth
//	the same while running    the same, and never less than 60 s to 66 s
//	a beat that failed        2 s, growing to 24 s, each varied by a quarter: never over 30 s
//	a refused registration    30 s to 60 s
//	[Loop.Nudge], Renew       none, but at least 100 ms after the beat before
//
// The variation keeps agents that were started together from beating together.
// It shortens an interval, except for the least one of a running benchmark, which
// has a lower bound to keep and is far enough from the 90 s. An answer that says
// that the server doesn't know the agent leads to a new registration and one more
// beat.
package heartbeat

import (
	"encoding/json"
	"errors"
	"time"
)

// Beat is what a heartbeat says about the agent. A nil field is unknown and is
// not sent.
type Beat struct {
	Status         string   // StatusIdle, StatusRunning or StatusError
	Task           string   // identifier of what is being worked on; empty if nothing is
	GPUUtilPct     *float64 // mean over all GPUs, 0 to 100
	GPUMemoryBytes *int64   // in use, summed over all GPUs
	StorageFree    *int64   // bytes free where models are kept
	Uptime         time.Duration
	Engines        []Engine

	// Busy reports whether a benchmark runs, whatever Status says: beats are
	// rarer then. StatusRunning implies it. It is not sent.
	Busy bool
}

// The words of Beat.Status.
const (
	StatusIdle    = "idle"
	StatusRunning = "running"
	StatusError   = "error"
)

// Engine is the state of an inference engine that is installed on the machine
// itself, in the form of the KITT protocol.
type Engine struct {
	Engine     string `json:"engine"`
	Installed  bool   `json:"installed"`
	BinaryPath string `json:"binary_path"`
	Version    string `json:"version"`
	Running    bool   `json:"running"`
	PID        int    `json:"pid"`
	Port       int    `json:"port"`
}

// Answer is what the server says to a heartbeat.
type Answer struct {
	AgentID  string            // the server's own id for the agent; empty if it named none
	Commands []Command         // at most one in KITT 1.7.0
	Settings map[string]string // as the server wrote them; nil if it sent none
}

// A Command is an order from the server or an operator.
type Command struct {
	ID      string          `json:"command_id"`
	TestID  string          `json:"test_id"`
	Type    string          `json:"type"`
	Payload json.RawMessage `json:"payload"` // never trusted
}

// ErrUnknownAgent is matched by the error of a heartbeat that the server
// answered with its own word (not a proxy's) that it knows no such agent.
var ErrUnknownAgent = errors.New("the server does not know this agent")
