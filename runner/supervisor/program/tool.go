package program

import "github.com/kirizan/kitt-agent/runner/supervisor"

// A Tool is one of the small programs of this module.
type Tool int

// The tools.
const (
	Supervisor Tool = iota // kitt-supervise, in front of a benchmark in its container
)

// A description is what there is to know of a tool.
type description struct {
	name      string // of its file
	source    string // directory in the module
	checkWord string // what it prints when it is called with -check
	purpose   string // ends a sentence that begins with "there is no kitt-supervise"
	packed    []byte // compressed by gzip; empty but in released programs
}

func (t Tool) describe() description {
	return description{
		name: "kitt-supervise", source: "runner/supervisor/kitt-supervise", checkWord: supervisor.CheckWord,
		purpose: "to run in them", packed: packedSupervisor,
	}
}

// String returns the name of the tool's file.
func (t Tool) String() string { return t.describe().name }
