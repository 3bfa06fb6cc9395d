// Package native runs the inference engines of this machine as processes that outlive
// the program.
//
// A [Manager] keeps all that it knows of an engine in Config.Dir:
//
//	NAME/engine.json   the last launch: what, where, whether it is healthy, how it ended
//	NAME/run/process   the files of package runner/process, with the engine's output
//	NAME/versions/V    what Install installed; NAME/current leads to the one in force
//
// An engine is a run of package runner/process: under a supervisor, with its output in a
// file whose oldest part goes when it is too large, found again after a crash, and ended
// with all that it started. engine.json is written before anything is started, and says
// that an engine has ended only after all of it is gone.
package native

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/engine"
	"github.com/kirizan/kitt-agent/runner/process"
)

// Defaults of a Config.
const (
	DefaultListen       = "127.0.0.1"
	DefaultStartTimeout = 600 * time.Second
	DefaultLogLimit     = 64 << 20
)

// Config says how engines are run. Dir and Finder are required.
type Config struct {
	// Dir is the directory of the manager's files. One manager at a time uses it.
	Dir string

	// Finder finds the engines. Its own Dir should be this one.
	Finder *engine.Finder

	// Listen is the address that engines listen on. Defaults to DefaultListen: they have
	// no key of their own.
	Listen string

	// Env is the environment of engines; see process.Config.
	Env []string

	// Supervisor and Start are those of process.Config. Without a supervisor an engine
	// ends with this program.
	Supervisor []string
	Start      func(*exec.Cmd) error

	// StartTimeout is what an engine gets to become healthy. Defaults to
	// DefaultStartTimeout. StopGrace is what it gets to end by itself. Defaults to
	// [runner.DefaultStopGrace].
	StartTimeout, StopGrace time.Duration

	// LogLimit is how much of an engine's output is kept, in bytes. Defaults to
	// DefaultLogLimit.
	LogLimit int64

	// Packages are what Install may install, by the names of engines.
	Packages map[string]Package

	// Transport is what Install downloads with. Nil means [http.DefaultTransport].
	Transport http.RoundTripper

	// Logger is told what happens to engines. Nil means silence.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.Listen == "" {
		c.Listen = DefaultListen
	}
	if c.StartTimeout == 0 {
		c.StartTimeout = DefaultStartTimeout
	}
	if c.LogLimit == 0 {
		c.LogLimit = DefaultLogLimit
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// A Manager is an [engine.Manager] whose engines are processes of this machine.
type Manager struct {
	cfg    Config
	log    *slog.Logger
	health *http.Client

	following sync.WaitGroup // for the goroutine of each run

	mu   sync.Mutex
	runs map[string]*run // what runs or is being started, by name; guarded by mu
}

var _ engine.Manager = (*Manager)(nil)

// Open returns a manager that has found again what an earlier one left running.
func Open(cfg Config) (*Manager, error) {
	cfg = cfg.withDefaults()
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("native: %w", err)
	}
	dir, err := filepath.EvalSymlinks(cfg.Dir)
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("native: %w", err)
	}
	cfg.Dir = dir
	m := &Manager{cfg: cfg, log: cfg.Logger, health: newHealthClient(), runs: map[string]*run{}}
	for _, spec := range engine.Specs() {
		rec, err := readRecord(m.dirOf(spec.Name))
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			m.log.Error("engine not resumed, since its record can't be read; stop it by hand", "engine", spec.Name, "err", err)
		case rec.Ended.IsZero():
			m.resume(spec, rec)
		}
	}
	return m, nil
}

// Close leaves the engines running, for the next manager, and waits until no goroutine follows
// them any more. It may be called twice.
func (m *Manager) Close() error {
	m.mu.Lock()
	runs := slices.Collect(maps.Values(m.runs))
	m.mu.Unlock()
	for _, r := range runs {
		r.cancel(runner.ErrDetach)
	}
	m.following.Wait()
	return nil
}

// dirOf returns the directory of an engine.
func (m *Manager) dirOf(name string) string { return filepath.Join(m.cfg.Dir, name) }

// find returns what runs of an engine, nil if nothing does.
func (m *Manager) find(name string) *run {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.runs[name]
}

// Detect returns what the Finder finds and what runs.
func (m *Manager) Detect(ctx context.Context) ([]engine.Status, error) {
	all, err := m.cfg.Finder.Detect(ctx)
	for i := range all {
		r := m.find(all[i].Name)
		if r == nil {
			continue
		}
		rec, pid := r.record(), r.pid()
		launch := rec.Launch
		all[i].Launch, all[i].Since, all[i].Ready, all[i].Port = &launch, rec.Started, rec.Ready, rec.Port
		all[i].Running, all[i].PID = true, pid
	}
	return all, err
}

// Watch returns when an engine has ended.
func (m *Manager) Watch(ctx context.Context, name string) error {
	r := m.find(name)
	if r == nil {
		return nil
	}
	select {
	case <-r.ended:
		return r.how
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// errStopped is the cause that ends a run because of a Stop.
var errStopped = errors.New("stopped")

// Stop ends an engine.
func (m *Manager) Stop(ctx context.Context, name string, out runner.Output) error {
	if _, ok := engine.Lookup(name); !ok {
		return engine.ErrUnknown(name)
	}
	r := m.find(name)
	if r == nil {
		return m.notOurs(ctx, name)
	}
	if err := out.WriteMessage(fmt.Sprintf("Stopping %s (PID %d)", name, r.pid())); err != nil {
		return err
	}
	r.cancel(errStopped)
	select {
	case <-r.ended:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if r.stopErr != nil {
		return fmt.Errorf("stop %s: %w", name, r.stopErr)
	}
	return nil
}

// notOurs returns the error for a Stop of an engine that this manager doesn't run.
func (m *Manager) notOurs(ctx context.Context, name string) error {
	all, err := m.cfg.Finder.Detect(ctx)
	if err != nil {
		return err
	}
	for _, s := range all {
		if s.Name == name && s.Running {
			err := fault.New(engine.ClassBusy, "stop it the way it was started", "%s runs (PID %d, port %d), but this agent did not start it", name, s.PID, s.Port)
			err.Err = engine.ErrNotRunning
			return err
		}
	}
	return fmt.Errorf("%s: %w", name, engine.ErrNotRunning)
}

// process returns the runner of one engine's process.
func (m *Manager) process(rec record) *process.Runner {
	cfg := process.Config{
		Env: append(slices.Clone(m.cfg.Env), rec.Env...), Supervisor: m.cfg.Supervisor, Start: m.cfg.Start, LogLimit: m.cfg.LogLimit,
	}
	if m.cfg.Env == nil {
		own, _ := process.Environment(os.Environ())
		cfg.Env = append(own, rec.Env...)
	}
	if len(rec.Command) > 0 {
		cfg.Command = rec.Command[0]
		cfg.Arguments = func(runner.Job) []string { return rec.Command[1:] }
	}
	return process.New(cfg)
}

// A record is engine.json.
type record struct {
	Version int           `json:"version"`
	Launch  engine.Launch `json:"launch"`
	Command []string      `json:"command"`
	Env     []string      `json:"env,omitempty"`
	Port    int           `json:"port"`
	Host    string        `json:"host"` // where it is asked for its health
	Started time.Time     `json:"started"`
	Ready   bool          `json:"ready"`
	Ended   time.Time     `json:"ended,omitzero"`
	How     string        `json:"how,omitempty"` // it ended, if not because of a Stop
}

const (
	recordFile    = "engine.json"
	recordVersion = 1
	maxRecord     = 1 << 20 // bytes
)

func readRecord(dir string) (rec record, err error) {
	path := filepath.Join(dir, recordFile)
	if err := base.ReadJSON(path, &rec, maxRecord); err != nil {
		return rec, err
	}
	if rec.Version != recordVersion {
		return rec, fmt.Errorf("%s: version %d is not understood", path, rec.Version)
	}
	return rec, nil
}

func (rec record) write(dir string) error {
	return base.WriteJSON(filepath.Join(dir, recordFile), rec, maxRecord)
}

// OutputFile returns the file with the output of an engine's last run. What was removed
// to save space is a hole at its beginning.
func OutputFile(dir, name string) string {
	return filepath.Join(dir, name, runDir, "process", "output")
}

// runDir is the directory of an engine's last run.
const runDir = "run"
