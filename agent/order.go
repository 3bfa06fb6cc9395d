package agent

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/heartbeat"
)

// Bounds of a command, whoever sends it.
const (
	maxPayload = 1 << 20 // bytes
	maxNesting = 32      // levels of objects and lists in a payload; the server's own have 2
	maxID      = 256     // bytes of a test's id; the server's own have 16
)

// order is command.json: what was asked.
type order struct {
	Version    int               `json:"version"`
	Command    heartbeat.Command `json:"command"`
	Source     string            `json:"source"` // who gave it: one of the source constants
	AcceptedAt time.Time         `json:"accepted_at"`
}

// newOrder returns the order to keep for cmd, which asks for s. Of the payload
// it keeps what the agent reads, so its size is bounded whatever was sent. If
// fault says that the command makes no sense, it keeps no payload: nothing of
// such a command may ever run.
func newOrder(cmd heartbeat.Command, s spec, fault error, source string, now time.Time) order {
	kept := heartbeat.Command{TestID: cmd.TestID, Type: printable(cmd.Type)}
	kept.ID, _ = safeID(cmd.ID)
	if fault == nil {
		kept.Payload = payload{
			ModelPath: s.Model, EngineName: s.Engine, SuiteName: s.Suite, EngineMode: s.Mode, BenchmarkName: s.Benchmark,
		}.encode()
	}
	return order{Version: recordVersion, Command: kept, Source: source, AcceptedAt: now}
}

// encode returns p as JSON.
func (p payload) encode() json.RawMessage {
	text, err := encodeJSON(p)
	if err != nil {
		panic(err) // an object of texts always encodes
	}
	return text
}

// compact returns o with only those parts of its payload that the agent reads.
// Agents before this one kept all of it.
func (o order) compact() order {
	var p payload
	if !emptyPayload(o.Command.Payload) && json.Unmarshal(o.Command.Payload, &p) == nil {
		o.Command.Payload = p.encode()
	}
	return o
}

// checkPayload refuses a payload that is too large or nested too deeply to be
// worth reading.
func checkPayload(text []byte) error {
	if len(text) > maxPayload {
		return badCommand("Invalid payload: %d bytes, at most %d are allowed", len(text), maxPayload)
	}
	return checkNesting("payload", text)
}

// checkNesting refuses JSON that has more than maxNesting levels.
func checkNesting(what string, text []byte) error {
	if nesting(text) > maxNesting {
		return badCommand("Invalid %s: objects and lists are nested more than %d levels deep", what, maxNesting)
	}
	return nil
}

// nesting returns how many levels of objects and lists text has, which is JSON.
func nesting(text []byte) int {
	depth, deepest, quoted := 0, 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}

// emptyPayload reports whether a payload asks for nothing.
func emptyPayload(text []byte) bool {
	raw := strings.TrimSpace(string(text))
	return raw == "" || raw == "null"
}
