package main

import (
	"fmt"
	"io"
	"path/filepath"
	"runtime/debug"
	"strings"
	"text/tabwriter"
)

// writeNextSteps prints what to do after the demo: three commands. program is how
// this program is called.
func writeNextSteps(w io.Writer, program string) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(table, "\nNext steps\n")
	for _, step := range [][2]string{
		{"check this machine", "preflight"},
		{"connect it to your KITT server", "init --server https://server:8080"},
		{"try that server with virtual agents", "simulate --server https://server:8080 --count 10 --jobs 1"},
	} {
		fmt.Fprintf(table, "  %s:\t%s %s\n", step[0], program, step[1])
	}
	return table.Flush()
}

// calledAs returns the words that call this program again. arg0 is its first
// argument: a name or a path, and a temporary file's under `go run`.
func calledAs(arg0 string) string {
	dir := filepath.Dir(arg0)
	if filepath.Base(dir) != "exe" || !strings.Contains(dir, "go-build") {
		return arg0
	}
	// A program of another module's directory has a sum: go run PATH@VERSION.
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Sum != "" {
		return "go run " + info.Path + "@" + info.Main.Version
	}
	return "go run ./cmd/kitt-agent"
}
