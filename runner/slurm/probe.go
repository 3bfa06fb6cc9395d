package slurm

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/runner"
)

// errNoNode is the cause of the end of a probe that waits for a node for too long.
var errNoNode = errors.New("no node started the probe in time")

// probeGrace is what a probe gets to end.
const probeGrace = 2 * time.Second

// Probe submits a job that prints a word, and returns nil once the word has come back: a
// node sees the shared directory, can run the wrapper and write there. The job has no
// GPU and at most a minute. A partition in which no node becomes free before ctx is
// done gives an error that says what the job waited for.
func (r *Runner) Probe(ctx context.Context) (node string, err error) {
	word := rand.Text()
	cfg := r.cfg
	cfg.Command, cfg.After, cfg.Describe, cfg.Fetch, cfg.Env = []string{"/bin/echo", word, argsWord}, nil, nil, nil, nil
	cfg.GPUs, cfg.Exclusive, cfg.Time = 0, false, time.Minute
	cfg.Poll, cfg.Late = min(cfg.Poll, time.Second), min(cfg.Late, 15*time.Second)
	probe, err := New(cfg)
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(r.cfg.SharedDir, ".probe-")
	if err != nil {
		return "", &runner.Error{
			Class: ClassShared, Text: fmt.Sprintf("this machine can't write to the shared directory: %v", err),
			Fix: "set slurm.shared_dir to a directory of the shared file system", Err: err,
		}
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", err
	}
	job := runner.Job{ID: "probe-" + word[:8], Dir: dir, ResultsDir: dir, Model: "none", Engine: "none", Suite: "none", StopGrace: probeGrace}
	var out probeOutput
	runCtx, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	defer context.AfterFunc(ctx, func() { stop(errNoNode) })()
	_, err = probe.Run(runCtx, job, &out)
	s, _ := ReadStatus(dir)
	printed, said := out.texts()
	switch {
	case errors.Is(err, errNoNode):
		return "", &runner.Error{Class: ClassSlurm, Text: "the probe job waited in vain; it was cancelled: job " + s.String(), Fix: "look at: sinfo", Err: err}
	case err != nil && errors.Is(err, runner.ErrStillRunning):
		return "", err
	case err != nil:
		return "", fmt.Errorf("%w: %s", err, said)
	case !bytes.Contains(printed, []byte(word)):
		return "", &runner.Error{
			Class: ClassShared, Text: "the probe job succeeded, and what it printed did not reach this machine",
			Fix: "mount slurm.shared_dir on all nodes by the same path",
		}
	}
	return s.Nodes, nil
}

// probeOutput keeps what a probe prints and what is said of it.
type probeOutput struct {
	mu      sync.Mutex
	printed []byte // guarded by mu
	said    string // guarded by mu; the last message
}

func (o *probeOutput) WriteOutput(p []byte, _ time.Time, _ runner.Position) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.printed = append(o.printed, p[:min(len(p), 4096)]...)
	return nil
}

func (o *probeOutput) WriteMessage(text string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.said = text
	return nil
}

func (o *probeOutput) texts() ([]byte, string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.printed, o.said
}
