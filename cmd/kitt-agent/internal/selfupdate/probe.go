package selfupdate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// Bounds of a probe.
const (
	probeTimeout = 30 * time.Second // a slow disk reads the program for the first time
	maxProbe     = 64 << 10         // bytes of its output
	probeKill    = 2 * time.Second  // for its pipes, once it is gone
)

// A Build is what a program says of itself.
type Build struct {
	Version string `json:"version"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

// Probe runs the program at path once, as `version --json`, and returns what it
// says of itself. It runs with an empty environment in the root directory, so
// neither settings nor secrets of the caller's reach it.
func Probe(ctx context.Context, path string) (Build, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "version", "--json")
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent", "KITT_HOME=/nonexistent"}
	cmd.Dir = "/"
	cmd.WaitDelay = probeKill
	var out, errs head
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("it did not end within %s", probeTimeout)
		}
		if words := strings.TrimSpace(errs.String()); words != "" {
			err = fmt.Errorf("%w: %q", err, words[:min(len(words), 500)])
		}
		return Build{}, fmt.Errorf("the new program does not run on this machine: %w", err)
	}
	var b Build
	if json.Unmarshal(out.Bytes(), &b) != nil || b.Version == "" {
		return Build{}, errors.New("the new program does not say what it is, so it is no kitt-agent")
	}
	return b, nil
}

// head keeps the beginning of what is written to it.
type head struct{ bytes.Buffer }

func (h *head) Write(p []byte) (int, error) {
	h.Buffer.Write(p[:min(len(p), maxProbe-h.Len())])
	return len(p), nil
}
