package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner/supervisor"
)

// A run's directory, Job.Dir/process, holds the supervisor's files and this one:
// what to run. It is written before anything is started.
//
// Agents from before package supervisor read and write the same directory, in
// the same version: keys are only added, and both follow each other's runs.
const specFile = "spec.json"

// version is that of spec.json. A program that finds a later one leaves the run
// alone.
const version = 1

// maxState bounds spec.json, in bytes. An environment may be 2 MiB on Linux and
// grows where JSON escapes it.
const maxState = 16 << 20

type spec struct {
	Version    int       `json:"version"`
	Job        string    `json:"job"`
	Path       string    `json:"path"`
	Args       []string  `json:"args"` // without the program's own name
	Env        []string  `json:"env"`
	Supervised bool      `json:"supervised"`
	Limit      int64     `json:"limit,omitempty"`  // see supervisor.Config
	Group      string    `json:"cgroup,omitempty"` // directory of the control group that the supervisor joins
	At         time.Time `json:"at"`
}

func writeState(dir, name string, v any) error {
	return base.WriteJSON(filepath.Join(dir, name), v, maxState)
}

// readSpec reads what to run. That there is no such file is no error.
func readSpec(dir string) (s spec, found bool, err error) {
	path := filepath.Join(dir, specFile)
	err = base.ReadJSON(path, &s, maxState)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return s, false, nil
	case err == nil && s.Version > version:
		err = fmt.Errorf("%s: version %d: %w", path, s.Version, supervisor.ErrVersion)
	case err == nil && s.Version < 1:
		err = fmt.Errorf("%s: it has no version", path)
	}
	return s, err == nil, err
}

func openOutput(dir string) (*os.File, error) {
	// Of a named pipe the opening would wait for a reader.
	return os.OpenFile(filepath.Join(dir, supervisor.OutputFile), os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NONBLOCK, 0o600)
}
