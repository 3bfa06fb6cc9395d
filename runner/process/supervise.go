package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kirizan/kitt-agent/runner/supervisor"
)

// Exit statuses of Supervise.
const (
	superviseOK     = 0 // the run has ended and how is written down
	superviseFailed = 1 // it could not be begun, or how it ended could not be written
	superviseBusy   = 3 // another supervisor has it, or it was begun before, or it was called off
)

// Supervise runs the benchmark that dir, a job's process directory, describes,
// waits for its end and writes down how it ended. It returns the status for the
// program to exit with.
//
// It is the whole of the program that Config.Supervisor names, whose only task
// is to outlive the agent; see [supervisor.Run].
func Supervise(dir string) int {
	s, found, err := readSpec(dir)
	if err != nil {
		return superviseFailed
	}
	if !found {
		return superviseBusy
	}
	if g := groupOf(dir, s.Group); g != "" {
		_ = g.Join() // else its processes are found by their environment
	}
	_, err = supervisor.Run(supervisor.Config{
		Dir: dir, Command: append([]string{s.Path}, s.Args...), Env: s.Env, WorkDir: dir, Limit: s.Limit,
		Wanted: func() error { return wanted(dir) },
	})
	switch {
	case errors.Is(err, supervisor.ErrTaken), errors.Is(err, errCalledOff):
		return superviseBusy
	case err != nil:
		return superviseFailed
	}
	return superviseOK
}

// errCalledOff says that an agent took back what is to be run.
var errCalledOff = errors.New("its spec is gone")

// wanted returns an error if the run was called off, which removes its spec.
func wanted(dir string) error {
	_, err := os.Stat(filepath.Join(dir, specFile))
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %w", errCalledOff, err)
	}
	return err
}
