package preflight

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Python checks that Python 3.10 or newer is installed. Only the local kitt
// command needs it. local reports whether jobs run through that command, because
// there is no image to run them in; if it returns false the check is skipped. A
// nil local means true.
func Python(local func(ctx context.Context) bool) Check {
	return Func{Label: "python", Must: true, Do: func(ctx context.Context) Result {
		needed := local == nil || local(ctx)
		program, version := python(ctx)
		r := Result{Status: OK, Details: fmt.Sprintf("Python %s at %s", version, program)}
		if !needed {
			if version == "" {
				return Result{Status: Skip, Details: "no Python found, and none needed: jobs run in containers"}
			}
			r.Details += "; not needed: jobs run in containers"
			return r
		}
		kitt, err := exec.LookPath("kitt")
		switch {
		case version == "":
			return Result{Status: Fail, Details: "there is neither a KITT image nor Python, so nothing can run a job", Fix: "kitt-agent build"}
		case !atLeast310(version):
			return Result{Status: Fail, Details: fmt.Sprintf("Python %s at %s is older than 3.10, which the local kitt command needs", version, program), Fix: "install Python 3.10 or newer, or run kitt-agent build to run jobs in containers"}
		case err != nil:
			return Result{Status: Fail, Details: r.Details + ", but there is neither a KITT image nor a kitt command", Fix: "kitt-agent build"}
		}
		r.Details += " for " + kitt
		return r
	}}
}

// python returns the interpreter of the kitt command or, if there is none, the
// first one on PATH, and its version.
func python(ctx context.Context) (program, version string) {
	var candidates []string
	if kitt, err := exec.LookPath("kitt"); err == nil {
		if text, err := readSome(kitt); err == nil {
			if line, ok := strings.CutPrefix(text, "#!"); ok {
				line, _, _ = strings.Cut(line, "\n")
				if words := strings.Fields(line); len(words) == 1 {
					candidates = append(candidates, words[0])
				}
			}
		}
	}
	for _, candidate := range append(candidates, "python3", "python") {
		path, err := exec.LookPath(candidate)
		if err != nil {
			continue
		}
		cmd := exec.CommandContext(ctx, path, "--version")
		cmd.WaitDelay = time.Second
		out, err := cmd.CombinedOutput()
		if m := pythonVersion.FindSubmatch(out); err == nil && m != nil {
			return path, string(m[1])
		}
	}
	return "", ""
}

var pythonVersion = regexp.MustCompile(`^Python (\d+\.\d+(?:\.\d+)?)`)

func atLeast310(version string) bool {
	parts := strings.Split(version, ".")
	major, _ := strconv.Atoi(parts[0])
	minor, _ := strconv.Atoi(parts[1])
	return major > 3 || major == 3 && minor >= 10
}
