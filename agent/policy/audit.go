package policy

import "time"

// Who asked, in an [Entry].
const (
	ByServer  = "server"  // the KITT server, in the answer to a heartbeat
	ByCaller  = "caller"  // of the agent's HTTP API
	ByProgram = "program" // that the agent is part of
)

// An Entry of the audit trail says who asked for what, and what became of it. Its texts
// are safe to print and of bounded length.
type Entry struct {
	Time    time.Time `json:"time"`
	Who     string    `json:"who"`               // ByServer, ByCaller or ByProgram
	From    string    `json:"from,omitempty"`    // a caller's address
	Request string    `json:"request"`           // a type of command, set and a setting's name, or an HTTP method and path
	ID      string    `json:"id,omitempty"`      // the command's or test's
	Subject string    `json:"subject,omitempty"` // the model, or the setting's value
	Allowed bool      `json:"allowed"`
	Rule    string    `json:"rule,omitempty"`    // why it was refused
	Omitted int       `json:"omitted,omitempty"` // refused HTTP requests before this one that have no entry
}
