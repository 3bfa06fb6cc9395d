package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"

	"golang.org/x/sys/unix"
)

// Names of the files in a run's directory, Job.Dir/process.
const (
	specFile    = "spec.json"    // what to run; written before anything is started
	lockFile    = "lock"         // locked for as long as the supervisor lives
	startedFile = "started.json" // who runs it; written before the child starts, and again after
	exitFile    = "exit.json"    // how it ended
	outputFile  = "output"       // what it printed
)

// version is that of all the files. A program that finds another one leaves the
// run alone.
const version = 1

// maxState bounds each JSON file that is read back, in bytes. An environment
// may be 2 MiB on Linux and grows where JSON escapes it.
const maxState = 16 << 20

type spec struct {
	Version    int       `json:"version"`
	Job        string    `json:"job"`
	Path       string    `json:"path"`
	Args       []string  `json:"args"` // without the program's own name
	Env        []string  `json:"env"`
	Supervised bool      `json:"supervised"`
	At         time.Time `json:"at"`
}

func (s spec) number() int { return s.Version }

type started struct {
	Version int       `json:"version"`
	Boot    string    `json:"boot"`       // the kernel's boot ID: PIDs mean nothing after a reboot
	Super   identity  `json:"supervisor"` // zero without a supervisor
	Child   identity  `json:"child"`      // zero until it was started
	At      time.Time `json:"at"`
}

func (s started) number() int { return s.Version }

type exit struct {
	Version int       `json:"version"`
	Code    int       `json:"code"`
	Signal  string    `json:"signal,omitempty"`
	OOM     bool      `json:"oom,omitempty"`
	Error   string    `json:"error,omitempty"` // why the child could not be started
	Ended   time.Time `json:"ended"`
}

func (e exit) number() int { return e.Version }

func writeState(dir, name string, v any) error {
	return base.WriteJSON(filepath.Join(dir, name), v, maxState)
}

// writeStateLater writes without waiting for the disk, which would slow down what
// the benchmark writes meanwhile. After a crash of the machine the file may be
// the one before, which is as good: its processes are gone.
func writeStateLater(dir, name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path+".new", append(data, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// readState reads a file of the run's directory. A file that is not there is
// no error.
func readState[T interface{ number() int }](dir, name string) (v T, found bool, err error) {
	path := filepath.Join(dir, name)
	err = base.ReadJSON(path, &v, maxState)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return v, false, nil
	case err == nil && v.number() != version:
		err = fmt.Errorf("%s: version %d is not understood", path, v.number())
	}
	return v, err == nil, err
}

// lock takes the run's lock, which is given back when the file is closed. It
// returns nil if another process has it.
func lock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, nil
	}
	return nil, fmt.Errorf("lock %s: %w", filepath.Join(dir, lockFile), err)
}

func openOutput(dir string) (*os.File, error) {
	return os.OpenFile(filepath.Join(dir, outputFile), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
}
