// Command testreport reads what `go test -json` prints, shows it as `go test` would,
// and names at the end the tests that were skipped, with their reasons, and the slowest
// ones. Without -v, `go test` itself says nothing about skips.
//
//	go test -json ./... | go run ./scripts/testreport
//
// It exits with 1 if a test failed.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

func main() {
	failed, err := report(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
	}
	if failed || err != nil {
		os.Exit(1)
	}
}

// An event is one line of `go test -json` (go doc test2json).
type event struct {
	Action  string
	Package string
	Test    string
	Elapsed float64 // seconds
	Output  string
}

// name returns the test's name with the end of its package's path.
func (e event) name() string {
	return e.Package[strings.LastIndex(e.Package, "/")+1:] + " " + e.Test
}

// A result is a test that is worth a line at the end.
type result struct {
	name   string
	reason string
	took   time.Duration
}

// slowest is how many of the slowest tests are named.
const slowest = 10

// report copies the run to w and reports whether anything failed.
func report(r io.Reader, w io.Writer) (failed bool, err error) {
	output := map[string][]string{} // of each test, by package and name
	var skipped, timed []result
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			var e event
			if json.Unmarshal([]byte(line), &e) != nil { // what the compiler says, for one
				fmt.Fprint(w, line)
				continue
			}
			key := e.Package + " " + e.Test
			switch {
			case e.Action == "build-output", e.Action == "output" && e.Test == "" && !noise(e.Output):
				fmt.Fprint(w, e.Output)
			case e.Action == "output":
				output[key] = append(output[key], e.Output)
			case e.Action == "fail":
				failed = true
				fmt.Fprint(w, strings.Join(output[key], ""))
				delete(output, key)
				if e.Test == "" {
					unfinished(w, e.Package, output)
				}
			case e.Action == "skip" && e.Test != "":
				skipped = append(skipped, result{name: e.name(), reason: reason(output[key])})
				delete(output, key)
			case e.Action == "pass":
				delete(output, key)
			}
			if e.Test != "" && !strings.Contains(e.Test, "/") && e.Elapsed > 0 {
				timed = append(timed, result{name: e.name(), took: time.Duration(e.Elapsed * float64(time.Second))})
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return failed, err
		}
	}
	fmt.Fprintf(w, "\n%d tests skipped\n", len(skipped))
	for _, s := range skipped {
		fmt.Fprintf(w, "  %s: %s\n", s.name, s.reason)
	}
	slices.SortFunc(timed, func(a, b result) int { return int(b.took - a.took) })
	fmt.Fprintln(w, "slowest tests")
	for _, t := range timed[:min(len(timed), slowest)] {
		fmt.Fprintf(w, "  %8s  %s\n", t.took.Round(10*time.Millisecond), t.name)
	}
	return failed, nil
}

// unfinished prints what the tests of a failed package said that never ended: after a
// panic or a timeout, the reason is among it.
func unfinished(w io.Writer, pkg string, output map[string][]string) {
	for _, key := range slices.Sorted(maps.Keys(output)) {
		name, ok := strings.CutPrefix(key, pkg+" ")
		if !ok {
			continue
		}
		fmt.Fprintf(w, "%s has not ended\n", name)
		for _, line := range output[key] {
			if !noise(line) {
				fmt.Fprint(w, line)
			}
		}
		delete(output, key)
	}
}

// noise reports whether a package's output is what `go test` hides without -v.
func noise(line string) bool {
	return line == "PASS\n" || strings.HasPrefix(line, "=== ") || strings.Contains(line, "[no test files]")
}

// reason returns why a test was skipped, from what it printed.
func reason(output []string) string {
	for _, line := range output {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- ") {
			continue
		}
		if _, text, ok := strings.Cut(line, ".go:"); ok { // file.go:12: text
			_, text, _ = strings.Cut(text, ": ")
			return text
		}
		return line
	}
	return "no reason given"
}
