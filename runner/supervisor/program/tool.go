package program

import "github.com/kirizan/kitt-agent/runner/supervisor"

// A Tool is one of the small programs of this module.
type Tool int

// The tools.
const (
	Supervisor  Tool = iota // kitt-supervise, in front of a benchmark in its container
	SocketProxy             // kitt-socket-proxy, between a benchmark and the container engine
)

// A description is what there is to know of a tool.
type description struct {
	name      string // of its file
	source    string // directory in the module
	checkWord string // what it prints when it is called with -check
	purpose   string // ends a sentence that begins with "there is no kitt-supervise"
	packed    []byte // compressed by gzip; empty but in released programs
	outside   bool   // whether it runs outside of containers, so that it may be linked dynamically
}

func (t Tool) describe() description {
	if t == SocketProxy {
		return description{
			name: "kitt-socket-proxy", source: "runner/docker/socketproxy/kitt-socket-proxy", checkWord: "kitt-socket-proxy 1",
			purpose: "between them and the engine", packed: packedSocketProxy, outside: true,
		}
	}
	return description{
		name: "kitt-supervise", source: "runner/supervisor/kitt-supervise", checkWord: supervisor.CheckWord,
		purpose: "to run in them", packed: packedSupervisor,
	}
}

// String returns the name of the tool's file.
func (t Tool) String() string { return t.describe().name }
