package program

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
)

const module = "github.com/kirizan/kitt-agent"

// buildLimit is how long the go command may take.
const buildLimit = 3 * time.Minute

// built has the go command build the program: from the sources that the running
// one was built from where they are at hand, else from its version of the module.
// A version is built once; sources that may change are built again by each
// process, which takes the go command no time if they didn't.
func (s Source) built(ctx context.Context) (Program, error) {
	dir, err := s.dir()
	if err != nil {
		return Program{}, err
	}
	source := s.Tool.describe().source
	version, sources := ours(source)
	path := filepath.Join(dir, fmt.Sprintf("%s-%s-%s", s.Tool, version, runtime.GOARCH))
	p := Program{Path: path}
	if sources == "" && version == devel {
		return p, errors.New("neither its sources nor its version are known")
	}
	if version != devel && s.Tool.check(ctx, p) == nil {
		return p, nil
	}
	command, err := exec.LookPath("go")
	if err != nil {
		return p, errors.New("there is no go command")
	}
	work, err := os.MkdirTemp(dir, "build-")
	if err != nil {
		return p, err
	}
	defer os.RemoveAll(work)
	ctx, cancel := context.WithTimeout(ctx, buildLimit)
	defer cancel()
	var cmd *exec.Cmd
	if sources != "" {
		cmd = exec.CommandContext(ctx, command, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", work, "./"+source)
		cmd.Dir = sources
	} else {
		cmd = exec.CommandContext(ctx, command, "install", "-trimpath", "-ldflags=-s -w", module+"/"+source+"@"+version)
		cmd.Dir = work
	}
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOBIN="+work, "GOFLAGS=", "GOWORK=off", "GOOS=linux", "GOARCH="+runtime.GOARCH)
	cmd.WaitDelay = time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return p, fmt.Errorf("go %s: %w: %s", cmd.Args[1], err, base.Printable(base.OneLine(string(out)), 300))
	}
	// A container that is just being started has the file of before.
	return p, os.Rename(filepath.Join(work, s.Tool.String()), path)
}

// devel is the version of a program that was built from sources.
const devel = "devel"

// ours returns the version of this module that the running program was built
// with, and the directory of its sources if they, source among them, are on this
// machine.
func ours(source string) (version, sources string) {
	version = devel
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range append([]*debug.Module{&info.Main}, info.Deps...) {
			if m.Path == module && m.Replace == nil && strings.HasPrefix(m.Version, "v") && !strings.Contains(m.Version, "+dirty") {
				version = m.Version
			}
		}
	}
	_, file, _, ok := runtime.Caller(0) // a path of this machine, unless built with -trimpath
	root := strings.TrimSuffix(file, "/runner/supervisor/program/build.go")
	if !ok || !filepath.IsAbs(root) || root == file {
		return version, ""
	}
	if _, err := os.Stat(filepath.Join(root, source)); err != nil {
		return version, ""
	}
	return version, root
}
