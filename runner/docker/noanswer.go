package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/kirizan/kitt-agent/runner"
)

// noAnswer reports whether err says only that the engine, or the containerd that it
// needs, did not answer. What it was asked for it may have done all the same.
func noAnswer(err error) bool {
	switch {
	case err == nil:
		return false
	case client.IsErrConnectionFailed(err), errors.Is(err, context.DeadlineExceeded), errdefs.IsUnavailable(err):
		return true
	case errdefs.IsInternal(err):
		// What gRPC says of a containerd that is away, in the text of a status 500.
		text := err.Error()
		return strings.Contains(text, "connection error: desc =") || strings.Contains(text, "error reading from server: EOF")
	}
	for _, broken := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, broken) {
			return true
		}
	}
	return false
}

// unreachable returns the error for an engine that did not do what it was asked for.
// It says nothing about what the engine has, so that a job waits.
func (r *Runner) unreachable(err error) error {
	return &runner.Error{
		Class: runner.ClassEngine,
		Text:  fmt.Sprintf("the Docker engine at %s does not answer: %v", r.engine.DaemonHost(), err),
		Fix:   "sudo systemctl start docker",
		Err:   errors.Join(runner.ErrNotReady, err),
	}
}

// notInstalled returns an error that matches [runner.ErrUnavailable] if there is no
// engine on this machine that could come back: nobody named one, it never answered
// this program, it has no socket, and there is no program that could make one.
func (r *Runner) notInstalled() error {
	if r.answered.Load() || r.config.Host != "" || os.Getenv(client.EnvOverrideHost) != "" {
		return nil
	}
	if _, err := os.Stat(r.socket()); !errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if engineProgram(append(filepath.SplitList(os.Getenv("PATH")), "/usr/bin", "/usr/sbin", "/usr/local/bin", "/snap/bin")) {
		return nil
	}
	return &runner.Error{
		Class: runner.ClassUnavailable, Text: "Docker is not installed on this machine",
		Fix: "install Docker Engine, or set runner: process", Err: runner.ErrUnavailable,
	}
}

// engineProgram reports whether one of the directories may hold a program that is, or
// is installed with, an engine. A directory that can't be searched may.
func engineProgram(dirs []string) bool {
	for _, dir := range dirs {
		for _, name := range []string{"dockerd", "docker", "podman"} {
			if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) {
				return true
			}
		}
	}
	return false
}
