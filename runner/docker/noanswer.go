package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/kirizan/kitt-agent/runner"
)

// An answer is what the error of a call says of the engine.
type answer int

const (
	// The engine did what it was asked for, or said why it can't.
	answered answer = iota

	// The engine, or the containerd that it needs, did not answer. What it was asked
	// for it may have done all the same.
	noAnswer

	// The engine answered, and lost a call of its own halfway: a shim that died under
	// it, a containerd that was stopped while it worked or took too long. Asked again,
	// it may succeed; but a shim that dies each time says the same for ever.
	interrupted
)

// answerOf returns what err, of a call to the engine, says of it. It doesn't look at the
// status alone: dockerd answers 500 to a start that containerd did not answer, and 400
// if the text of that holds "no such file or directory" or "permission denied", as it
// does while containerd has no socket (setExitCodeFromError in moby's daemon/errors.go).
func answerOf(err error) answer {
	switch {
	case err == nil:
		return answered
	case client.IsErrConnectionFailed(err), errors.Is(err, context.DeadlineExceeded), errdefs.IsUnavailable(err):
		return noAnswer
	}
	for _, broken := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, broken) {
			return noAnswer
		}
	}
	_, text, ofDaemon := strings.Cut(err.Error(), daemonSays)
	if !ofDaemon {
		return answered
	}
	class := strings.TrimSpace(text[strings.LastIndex(text, ": ")+1:])
	switch {
	case class == "unavailable", containsAny(text, awayTexts):
		return noAnswer
	case class == "context canceled", class == "context deadline exceeded", containsAny(text, interruptedTexts), halfStarted(err):
		return interrupted
	}
	return answered
}

// daemonSays begins what moby's client quotes of an engine's answer. dockerd ends what
// it quotes of containerd with the class of the error, which containerd's client makes
// of gRPC's status code (FromGRPC in its errdefs/grpc.go, ToNative in
// errdefs/pkg/errgrpc): "unavailable" is that of each connection that is broken or can't
// be made.
const daemonSays = "Error response from daemon: "

// awayTexts are gRPC's words for a server that is away, where no class follows them: in
// an answer that dockerd turned into another, or did not get through containerd's client.
var awayTexts = []string{
	"code = Unavailable desc =",
	"connection error: desc =",
	"error reading from server:",
	"transport is closing",
	"the connection is unavailable",
	"the client connection is closing",
}

// interruptedTexts are those of calls between containerd and a shim that ended too soon.
// containerd passes them on without a class of their own, as "unknown".
var interruptedTexts = []string{
	"ttrpc: closed",
	"ttrpc: server closed",
	"failed to create TTRPC connection",
	"context canceled: unknown",
	"context deadline exceeded: unknown",
	"no running task found",
}

// halfStarted reports whether err, of a start, says that an earlier start of the container
// has left something in containerd or runc: an engine or a containerd was killed during
// it. The engine does not remove what is left, so that each further start fails too.
func halfStarted(err error) bool {
	if err == nil {
		return false
	}
	_, text, _ := strings.Cut(err.Error(), daemonSays)
	return strings.HasSuffix(text, ": already exists") || containsAny(text, leftoverTexts)
}

var leftoverTexts = []string{
	"with given ID already exists", // runc
	"id already in use",            // moby 20.10, for a container of containerd's
	"failed to start shim: mkdir ", // followed by the bundle's directory and "file exists"
}

func containsAny(text string, parts []string) bool {
	return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(text, part) })
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
