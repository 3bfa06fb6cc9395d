package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"

	"github.com/kirizan/kitt-agent/runner/internal/procfs"
)

// Names of the files in a run's directory; see the package comment.
const (
	LockFile   = "lock"
	ClaimFile  = "started.json"
	OutputFile = "output"
	IndexFile  = "index"
	GapsFile   = "gaps.json"
	ExitFile   = "exit.json"
)

// Version is that of the files this program writes.
const Version = 1

// DefaultLimit is the most bytes of a run's output on the disk, unless a runner is
// told otherwise.
const DefaultLimit = 4 << 30

// LimitOf returns Config.Limit for a runner's own setting, of which zero means
// [DefaultLimit] and less no limit.
func LimitOf(setting int64) int64 {
	if setting == 0 {
		return DefaultLimit
	}
	return max(0, setting)
}

// maxState is the most bytes that a reader accepts of a JSON file here.
const maxState = 64 << 10

// ErrVersion is matched by the error for a file of a later version than
// [Version]. Only a newer agent can follow such a run.
var ErrVersion = errors.New("written by a newer version")

// A Claim is the file started.json: who runs the benchmark.
type Claim struct {
	Version    int       `json:"version"`
	Boot       string    `json:"boot"`            // the kernel's boot ID: PIDs mean nothing after a reboot
	Host       string    `json:"host,omitempty"`  // name of the machine or container
	Label      string    `json:"label,omitempty"` // of the run at its scheduler; see [Shared]
	Supervisor procfs.ID `json:"supervisor"`      // as seen by the supervisor, which may have PIDs of its own
	Child      procfs.ID `json:"child"`           // zero until it was started
	At         time.Time `json:"at"`              // of the claim, then of the child's start
}

// An Exit is the file exit.json: how the benchmark ended.
type Exit struct {
	Version int       `json:"version"`
	Code    int       `json:"code"`             // exit status; 128 plus the signal's number
	Signal  string    `json:"signal,omitempty"` // such as SIGKILL; empty if it exited by itself
	OOM     bool      `json:"oom,omitempty"`    // whether the kernel killed it for want of memory
	Error   string    `json:"error,omitempty"`  // why it could not be started
	Fault   string    `json:"fault,omitempty"`  // what Error is about, if it is about GPUs: FaultFewGPUs or FaultManyGPUs
	Boot    string    `json:"boot,omitempty"`   // the kernel's boot ID
	Devices int       `json:"devices"`          // NVIDIA GPUs that it could see, by their files in /dev; -1 if these don't tell
	Output  int64     `json:"output,omitempty"` // size of the output of a shared run, in bytes
	Asked   string    `json:"asked,omitempty"`  // what asked a shared run to end: a signal's name, or cancel for CancelFile
	Started time.Time `json:"started,omitzero"`
	Ended   time.Time `json:"ended"`
}

// What Exit.Fault says of a run that was not begun.
const (
	FaultFewGPUs  = "few-gpus"  // it would see fewer GPUs than it was to have
	FaultManyGPUs = "many-gpus" // it would see more, and was to see no others
)

func (c Claim) version() int { return c.Version }
func (e Exit) version() int  { return e.Version }

// fileMode is that of every file here. The directory above keeps others out; the
// agent may run as another user than the supervisor.
const fileMode = 0o644

func encode(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	return append(text, '\n'), err
}

// decode reads a file's text into v, and refuses a later version.
func decode[T interface{ version() int }](name string, text []byte) (v T, err error) {
	if err := json.Unmarshal(text, &v); err != nil {
		return v, fmt.Errorf("%s: %w", name, err)
	}
	switch n := v.version(); {
	case n > Version:
		return v, fmt.Errorf("%s: version %d: %w", name, n, ErrVersion)
	case n < 1:
		return v, fmt.Errorf("%s: it has no version", name)
	}
	return v, nil
}

// replace writes a file durably: all of it or what was there before.
func replace(dir, name string, v any) error {
	text, err := encode(v)
	if err != nil {
		return err
	}
	return renameio.WriteFile(filepath.Join(dir, name), text, fileMode, renameio.IgnoreUmask(), renameio.WithTempDir(dir))
}

// replaceSoon replaces a file without waiting for the disk, which would slow down
// what the benchmark writes meanwhile. After a crash of the machine the file may
// be the one before, which is as good: its processes are gone.
func replaceSoon(dir, name string, v any) error {
	text, err := encode(v)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, name)
	f, err := create(path+".new", os.O_TRUNC)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// create opens a file for writing, whatever the umask is.
func create(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|flags, fileMode)
	if err != nil {
		return nil, err
	}
	// Of a file that was made by another user, the mode stays.
	_ = f.Chmod(fileMode)
	return f, nil
}
