package simulated

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
)

// Config says what a [Runner] simulates. The zero value is a run that goes
// well, at once, on [DefaultHardware].
type Config struct {
	// Hardware is the machine that runs claim to run on.
	Hardware Hardware

	// Seed and the job's ID decide every figure, line and delay of a run.
	Seed uint64

	// SameForAllJobs leaves the job's ID out of it, so that all jobs with the
	// same model and suite come to the same figures.
	SameForAllJobs bool

	// Speed is the factor on the delays between lines, which without it are
	// 0.5 to 1.5 s: 1 keeps them, 0.1 makes them a tenth, 0 (the default)
	// leaves them out. From 0 to 1000.
	Speed float64

	// Scenario is what goes wrong.
	Scenario Scenario

	// Crash is called where the scenario says "crash", and may well not
	// return. The run ends with the error that it returns, or goes on if that
	// is nil. By default it returns [ErrCrash].
	Crash func(runner.Job) error

	// Now is the clock that the times in Result and metrics.json come from.
	// Defaults to time.Now. It is called by several runs at once.
	Now func() time.Time

	// Sleep waits for d, which is positive, or until ctx is done, whose cause
	// it then returns. Together with Now it is how a run is put on a clock of
	// one's own. Defaults to a time.Timer. It is called by several runs at
	// once.
	Sleep func(ctx context.Context, d time.Duration) error

	// WriteFile takes metrics.json at the end of a run that has one. Defaults to
	// writing it to path, where it appears whole or not at all; a program that
	// wants no files takes data instead, which is its own from then on. It is
	// called by several runs at once.
	WriteFile func(path string, data []byte) error
}

// ErrCrash is the error of a run whose scenario says "crash" where
// Config.Crash is nil.
var ErrCrash = errors.New("simulated crash")

// A Runner runs simulated jobs, any number of them at once. It starts no
// goroutine and holds nothing between runs.
type Runner struct{ cfg Config }

var _ runner.Runner = (*Runner)(nil)

// New returns a Runner.
func New(cfg Config) (*Runner, error) {
	cfg.Hardware = cfg.Hardware.withDefaults()
	if cfg.Crash == nil {
		cfg.Crash = func(runner.Job) error { return ErrCrash }
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Sleep == nil {
		cfg.Sleep = base.Wait
	}
	if cfg.WriteFile == nil {
		cfg.WriteFile = writeFile
	}
	errs := []error{cfg.Hardware.validate(), cfg.Scenario.validate()}
	if !between(cfg.Speed, 0, 1000) {
		errs = append(errs, fmt.Errorf("bad Speed %v: want 0 to 1000", cfg.Speed))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("simulated: %w", err)
	}
	return &Runner{cfg: cfg}, nil
}

var _ runner.Owner = (*Runner)(nil)

// Owns returns none: a simulated run has no processes.
func (r *Runner) Owns(context.Context, []runner.Job, []int) ([]int, error) { return nil, nil }

// Run simulates the benchmark that job asks for. It follows the contract of
// [runner.Runner], with an ExitError where the scenario or the hardware demands
// one; an ExitError of a model that doesn't fit says how much memory is
// missing. Job.GPUs and Job.Image are not looked at: what the benchmark runs on
// is Config.Hardware.
//
// A simulated run is part of this program and can't outlive it. Whatever the
// cause of ctx's end, [runner.ErrDetach] included, the run ends at once, leaves
// no metrics.json, and its error matches that cause. It waits for a disk that is full or
// a process with too many open files.
func (r *Runner) Run(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
	res := runner.Result{Runner: "simulated", Started: r.cfg.Now()}
	err := r.run(ctx, job, out, res.Started)
	res.Ended = r.cfg.Now()
	if _, failed := errors.AsType[*runner.ExitError](err); err != nil && !failed {
		err = fmt.Errorf("simulated run of job %s: %w", job.ID, err)
	}
	return res, err
}

func (r *Runner) run(ctx context.Context, job runner.Job, out runner.Output, started time.Time) error {
	m := newMeasurer(place(parseModel(job.Model, job.Engine), r.cfg.Hardware), r.rng(job, "figures"))
	s := newScript(job, r.cfg.Hardware, m, r.cfg.Scenario.PassedFalse)
	s.report.Timestamp = stamp(started)
	p := player{cfg: &r.cfg, job: job, out: runner.OutputWriter(out), rng: r.rng(job, "delays")}
	if err := p.play(ctx, s); err != nil {
		return err
	}
	if r.cfg.Scenario.NoMetrics {
		return nil
	}
	data, err := s.report.encode()
	if err != nil {
		return fmt.Errorf("encode metrics.json: %w", err)
	}
	if r.cfg.Scenario.BrokenMetrics {
		data = data[:len(data)/2]
	}
	_, err = base.Persist(ctx, nil, func() (any, error) {
		return nil, r.cfg.WriteFile(filepath.Join(job.ResultsDir, "metrics.json"), data)
	})
	return base.JoinCause(ctx, err)
}

// rng returns the generator of one use in one job. Figures and delays have one
// each, so that neither a scenario nor the speed changes a figure.
func (r *Runner) rng(job runner.Job, use string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(use))
	if !r.cfg.SameForAllJobs {
		h.Write([]byte("\x00" + job.ID))
	}
	return rand.New(rand.NewPCG(r.cfg.Seed, h.Sum64()))
}

// writeFile lets path appear with all of data or not at all. It doesn't sync:
// the result of a simulation that a power cut takes is soon made again.
func writeFile(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".metrics-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
