// Package health names what keeps an agent from its work, or soon will, and says what to
// do about it. [Table] has all reasons: the agent's status, /readyz, the metrics,
// notifications and the documentation take theirs from it.
package health

import (
	"cmp"
	"slices"
)

// A Reason is a kind of trouble, in one word for programs.
type Reason string

// The reasons. See [Table] for what they mean.
const (
	Stopped             Reason = "stopped"
	Stopping            Reason = "stopping"
	Stuck               Reason = "stuck"
	Duplicate           Reason = "duplicate"
	Refused             Reason = "refused"
	Unregistered        Reason = "unregistered"
	GPU                 Reason = "gpu"
	Runner              Reason = "runner"
	Engine              Reason = "engine"
	CertificateExpired  Reason = "certificate-expired"
	CertificateExpiring Reason = "certificate-expiring"
	DiskLow             Reason = "disk-low"
)

// A Row says what a reason means.
type Row struct {
	Reason Reason
	Text   string // the cause, in a sentence for a person, without names of this installation
	Remedy string // what to do about it
	Blocks bool   // whether the agent can do no work meanwhile
}

// table is in the order in which reasons are shown: the first one explains most.
var table = []Row{
	{Stopped, "the agent was not started", "start it with: kitt-agent start", true},
	{Stopping, "the agent is stopping and takes no commands", "wait until it has stopped, then start it again with: kitt-agent start", true},
	{Stuck, "the agent is stuck", "look at the disk that holds its jobs, then restart it; benchmarks go on meanwhile", true},
	{Duplicate, "another agent uses this agent's name", "give one of the two another name and an empty state directory, or stop it, then restart the other one", true},
	{Refused, "the server refuses this agent", "give the agent the token that the server has for it: kitt-agent init --token-file FILE", true},
	{Unregistered, "the server has not accepted the agent yet", "check server_url, the network and the server: kitt-agent preflight", true},
	{GPU, "a GPU cannot be used", "look at nvidia-smi and dmesg; most often the machine has to be restarted", true},
	{Runner, "there is nothing to run benchmarks with", "see what is missing: kitt-agent preflight", true},
	{Engine, "the container engine or Slurm does not answer", "start it, or see why it does not answer: systemctl start docker; scontrol ping for Slurm; jobs wait for it", true},
	{CertificateExpired, "a certificate has expired", "make a new one: kitt-agent certs renew", true},
	{CertificateExpiring, "a certificate expires soon", "make a new one: kitt-agent certs renew", false},
	{DiskLow, "a disk is almost full", "remove models (kitt-agent models rm) or other files; disk_low in agent.yaml sets the limit", false},
}

// Table returns all reasons, those first that explain the others.
func Table() []Row { return slices.Clone(table) }

// A Problem is one reason that applies now.
type Problem struct {
	Reason Reason `json:"reason"`
	Text   string `json:"text"`             // as in the Table
	Detail string `json:"detail,omitempty"` // names, figures and errors of this installation; may be empty
	Remedy string `json:"remedy"`
	Blocks bool   `json:"blocks"` // whether the agent can do no work meanwhile
}

// New returns a problem of the Table, with its detail. A reason that the Table does not
// have is a problem that blocks nothing.
func New(reason Reason, detail string) Problem {
	p := Problem{Reason: reason, Text: string(reason), Detail: detail}
	if i := row(reason); i < len(table) {
		p.Text, p.Remedy, p.Blocks = table[i].Text, table[i].Remedy, table[i].Blocks
	}
	return p
}

// row returns the place of a reason in the table, and the table's length for one that it
// does not have.
func row(reason Reason) int {
	if i := slices.IndexFunc(table, func(r Row) bool { return r.Reason == reason }); i >= 0 {
		return i
	}
	return len(table)
}

// String returns the cause, with its detail, without the remedy.
func (p Problem) String() string {
	if p.Detail == "" {
		return p.Text
	}
	return p.Text + ": " + p.Detail
}

// Sort sorts problems as the Table does.
func Sort(problems []Problem) {
	slices.SortStableFunc(problems, func(a, b Problem) int { return cmp.Compare(row(a.Reason), row(b.Reason)) })
}

// Blocking returns the first of sorted problems that keeps the agent from its work, and
// whether there is one.
func Blocking(problems []Problem) (Problem, bool) {
	i := slices.IndexFunc(problems, func(p Problem) bool { return p.Blocks })
	if i < 0 {
		return Problem{}, false
	}
	return problems[i], true
}
