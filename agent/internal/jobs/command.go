package jobs

import (
	"encoding/json"
	"time"
)

// A Command is what a job was asked to do, checked and bounded.
type Command struct {
	ID     string `json:"command_id"`
	TestID string `json:"test_id"` // the server's test; empty if there is none, or none is known
	Type   string `json:"type"`    // one of the types; of a job that failed at once, any text
	Spec   Spec   `json:"payload"`
}

// The types of command that become jobs, in the words of the KITT protocol.
const (
	TypeRunTest        = "run_test"
	TypeCleanupStorage = "cleanup_storage"
	TypeInstallEngine  = "install_engine"
	TypeStartEngine    = "start_engine"
	TypeStopEngine     = "stop_engine"
)

// IsJob reports whether commands of this type become jobs.
func (c Command) IsJob() bool {
	return c.Type == TypeRunTest || c.Type == TypeCleanupStorage || c.IsEngine()
}

// IsEngine reports whether the command concerns a native engine.
func (c Command) IsEngine() bool {
	return c.Type == TypeInstallEngine || c.Type == TypeStartEngine || c.Type == TypeStopEngine
}

// A Spec says on what a job works, with defaults in place of what the command
// left out. Its JSON is the part of a command's payload that the agent reads.
type Spec struct {
	Model     string `json:"model_path,omitempty"` // of a cleanup: empty means every copy
	Engine    string `json:"engine_name,omitempty"`
	Suite     string `json:"suite_name,omitempty"`
	Mode      string `json:"engine_mode,omitempty"`    // docker, native or empty
	Benchmark string `json:"benchmark_name,omitempty"` // shown to people; it doesn't reach `kitt run`
	Exclusive Flag   `json:"exclusive,omitempty"`      // whether it runs at the same time as no other benchmark
	Profile   Text   `json:"profile_id,omitempty"`     // of an engine profile of the server's; see package profile

	// RuntimeConfig configures an engine that is started; see engine.Spec.
	RuntimeConfig json.RawMessage `json:"runtime_config,omitempty"`
}

// A Flag is a yes or no of a command. Anything but true counts as no.
type Flag bool

// UnmarshalJSON implements [json.Unmarshaler].
func (f *Flag) UnmarshalJSON(data []byte) error {
	*f = string(data) == "true"
	return nil
}

// A Text is a text of a command that is of no consequence. A value of another kind
// counts as none.
type Text string

// UnmarshalJSON implements [json.Unmarshaler].
func (t *Text) UnmarshalJSON(data []byte) error {
	var text string
	if json.Unmarshal(data, &text) == nil {
		*t = Text(text)
	}
	return nil
}

// A Source says where a command came from.
type Source string

// The sources.
const (
	FromServer   Source = "server"    // a heartbeat's answer
	FromRecovery Source = "recovered" // found among the server's dispatched tests
	FromAPI      Source = "api"       // POST /api/commands
	FromProgram  Source = "program"   // Agent.Submit
)

// commandFile is command.json.
type commandFile struct {
	Version    int       `json:"version"`
	Command    Command   `json:"command"`
	Source     Source    `json:"source"`
	AcceptedAt time.Time `json:"accepted_at"`
}
