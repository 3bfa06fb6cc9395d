package supervisor

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
)

// maxReason bounds what a file says of why a program was not started.
const maxReason = 500

// plausible returns e with what can't be left out or brought within bounds.
func (e Exit) plausible() Exit {
	if e.Code < 0 || e.Code > 255 {
		e.Code = 255
	}
	if e.Signal != "" && (e.Code <= 128 || unix.SignalName(unix.Signal(e.Code-128)) != e.Signal) {
		e.Signal = ""
	}
	e.OOM = e.OOM && e.Code == 128+int(unix.SIGKILL)
	e.Error = base.Printable(base.OneLine(e.Error), maxReason)
	e.Output, e.Devices = max(0, e.Output), max(-1, e.Devices)
	if e.Fault != FaultFewGPUs && e.Fault != FaultManyGPUs {
		e.Fault = ""
	}
	if e.Asked != askedByCancel && unix.SignalNum(e.Asked) == 0 {
		e.Asked = ""
	}
	now := time.Now()
	if e.Ended.IsZero() || e.Ended.After(now) {
		e.Ended = now
	}
	if e.Started.After(e.Ended) {
		e.Started = e.Ended
	}
	return e
}

// Err returns how the benchmark ended as a runner's error: nil if it succeeded,
// an [*runner.ExitError] if it failed, and one that matches
// [runner.ErrUnavailable] if it could not be started.
func (e Exit) Err() error {
	switch {
	case e.Error != "":
		return NotStartable(e.Error)
	case e.Code != 0:
		return &runner.ExitError{Code: e.Code, Signal: e.Signal, OOMKilled: e.OOM}
	}
	return nil
}

// NotStartable returns the error for a benchmark that could not be started.
func NotStartable(reason string) error {
	return &runner.Error{
		Class: runner.ClassUnavailable,
		Text:  fmt.Sprintf("the benchmark can't be started: %s", reason),
		Fix:   "kitt-agent build",
		Err:   runner.ErrUnavailable,
	}
}
