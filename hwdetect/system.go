package hwdetect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Config configures a System. Its zero value describes the machine that the
// program runs on, without NVML.
type Config struct {
	// Root is a file tree with /proc, /sys, /run and /etc in it, such as one
	// recorded on another machine. Defaults to the machine's own.
	Root fs.FS

	// ModelDir is the model directory. Machine.Storage describes the disk that
	// holds it. It need not exist. Defaults to none: the first disk.
	ModelDir string

	// Sources list the machine's GPUs. They are asked in order, before
	// nvidia-smi. Defaults to none.
	Sources []Source

	// NVIDIASMI runs nvidia-smi. Defaults to the program on PATH, or to none if
	// Root is set.
	NVIDIASMI RunFunc

	// SMITelemetry lets nvidia-smi provide telemetry if no source exists that does.
	// This costs a new process for each reading, so there is one every 25 s, and
	// fewer if nvidia-smi takes more than an eighth of a second, down to one every
	// 2 min. Defaults to false: no telemetry.
	SMITelemetry bool

	// ProbeTimeout is the time limit of one probe, from 10 ms to 1.8 s. All
	// GPU sources together have one such limit. Defaults to 1.5 s.
	ProbeTimeout time.Duration

	// Logger receives failures. Defaults to discarding them.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.ProbeTimeout == 0 {
		c.ProbeTimeout = 1500 * time.Millisecond
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.NVIDIASMI == nil {
		c.NVIDIASMI = runNVIDIASMI
		if c.Root != nil {
			c.NVIDIASMI = func(context.Context, ...string) ([]byte, error) { return nil, ErrAbsent }
		}
	}
	return c
}

// A System describes the machine that the program runs on. Its methods are safe
// for concurrent use.
type System struct {
	cfg       Config
	sources   []Source
	root      fs.FS
	detecting chan struct{} // a semaphore: one Detect at a time
	probes    probes
	live      telemetry
}

var (
	_ Detector        = (*System)(nil)
	_ TelemetryReader = (*System)(nil)
	_ CounterReader   = (*System)(nil)
	_ ProcessReader   = (*System)(nil)
)

// New returns a System. It starts nothing.
func New(cfg Config) (*System, error) {
	cfg = cfg.withDefaults()
	if cfg.ProbeTimeout < 10*time.Millisecond || cfg.ProbeTimeout > 1800*time.Millisecond {
		return nil, fmt.Errorf("hwdetect: ProbeTimeout %s is not between 10ms and 1.8s", cfg.ProbeTimeout)
	}
	root := cfg.Root
	if root == nil {
		root = os.DirFS("/")
	}
	s := &System{cfg: cfg, root: root, detecting: make(chan struct{}, 1)}
	tool := smi{cfg.NVIDIASMI}
	s.sources = append(s.sources, cfg.Sources...)
	s.sources = append(s.sources, tool, driverFiles{root})
	for _, src := range cfg.Sources {
		if t, ok := src.(TelemetryReader); ok {
			s.live.sources = append(s.live.sources, t)
		}
	}
	if cfg.SMITelemetry {
		s.live.sources = append(s.live.sources, &sparing{TelemetryReader: tool})
	}
	s.live.log = cfg.Logger
	return s, nil
}

// Detect describes the machine, which takes a few milliseconds and at most 2 s.
// Each call runs all probes again, so it finds a driver or GPU that was added
// later. Concurrent calls run one after the other.
func (s *System) Detect(ctx context.Context) (*Machine, error) {
	select {
	case s.detecting <- struct{}{}:
		defer func() { <-s.detecting }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	m := &Machine{GPUs: []GPU{}}
	var inv Inventory
	var gpus sync.WaitGroup
	gpus.Go(func() { inv = s.inventory(ctx) })
	s.probes.run(ctx, s.cfg.hostProbes(),
		func(write func(*Machine)) { write(m) },
		func(g Gap) { m.Gaps = append(m.Gaps, g) })
	gpus.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	m.setInventory(inv)
	sortGaps(m.Gaps)
	return m, nil
}

// inventory asks the GPU sources in order until nothing is missing. They share the
// time limit of one probe. Each may use half of the remaining time, so that
// nvidia-smi still runs when NVML hangs.
func (s *System) inventory(ctx context.Context) Inventory {
	var inv Inventory
	var gaps []Gap
	failed := false // whether a source that exists failed
	left := s.cfg.ProbeTimeout
	for i, src := range s.sources {
		limit := left
		switch i {
		default:
			limit = left / 2
		case len(s.sources) - 2: // nvidia-smi
		case len(s.sources) - 1: // files
			limit = max(left, s.cfg.ProbeTimeout/10)
		}
		start := time.Now()
		found, timedOut, err := await(ctx, &s.probes, fmt.Sprint("source ", i), limit, src.Inventory)
		left = max(left-time.Since(start), s.cfg.ProbeTimeout/10)
		if _, files := src.(driverFiles); err != nil && !files { // missing files are not worth a gap
			why := strings.TrimPrefix(err.Error(), src.Name()+": ")
			gaps = append(gaps, Gap{What: src.Name(), Reason: strings.TrimSuffix(why, ": "+ErrAbsent.Error()), Incomplete: timedOut})
			if !errors.Is(err, ErrAbsent) {
				failed = true
				s.cfg.Logger.DebugContext(ctx, "gpu source failed", "source", src.Name(), "err", err)
			}
		}
		inv.add(found)
		if inv.complete() || ctx.Err() != nil {
			break
		}
	}
	inv.place(s.root)
	if len(inv.GPUs) == 0 && inv.DriverVersion == "" && len(inv.Gaps) == 0 {
		inv.Gaps = append(inv.Gaps, Gap{What: "gpus", Reason: "no NVIDIA GPU: no driver is loaded, and no card is on the PCI bus"})
		if !failed {
			return inv
		}
	}
	inv.Gaps = append(inv.Gaps, gaps...)
	return inv
}

// setInventory sets the fields of m that describe GPUs.
func (m *Machine) setInventory(inv Inventory) {
	slices.SortFunc(inv.GPUs, func(a, b GPU) int { return a.Index - b.Index })
	for _, g := range inv.GPUs {
		if g.Unified && g.MemoryBytes == 0 {
			g.MemoryBytes = m.MemoryBytes
		}
		m.GPUs = append(m.GPUs, g)
	}
	m.DriverVersion, m.CUDADriver = inv.DriverVersion, inv.CUDADriver
	m.Gaps = append(m.Gaps, inv.Gaps...)
}

// Telemetry returns the latest reading of the GPUs. If that is older than half a
// second, Telemetry starts a new one and waits for it for at most 100 ms. Without
// a GPU or a source of telemetry the reading lists no GPUs. The error matches
// ctx.Err() if ctx is done first.
func (s *System) Telemetry(ctx context.Context) (Telemetry, error) {
	return s.live.latest(ctx)
}

// Counters returns the counters of the GPUs from the first of Config.Sources that
// is a [CounterReader] and has them. The error matches [ErrAbsent] if there is none.
func (s *System) Counters(ctx context.Context) (Counters, error) {
	return firstAnswer(ctx, s.sources, CounterReader.Counters)
}

// Processes returns the processes on the GPUs from the first of Config.Sources that
// is a [ProcessReader] and has them. The error matches [ErrAbsent] if there is none.
func (s *System) Processes(ctx context.Context) ([]GPUProcess, error) {
	return firstAnswer(ctx, s.sources, ProcessReader.Processes)
}

// firstAnswer asks the sources that are an R in order, until one answers.
func firstAnswer[R, T any](ctx context.Context, sources []Source, ask func(R, context.Context) (T, error)) (T, error) {
	var none T
	var errs []error
	for _, src := range sources {
		reader, ok := src.(R)
		if !ok {
			continue
		}
		answer, err := ask(reader, ctx)
		if err == nil {
			return answer, nil
		}
		if ctx.Err() != nil {
			return none, context.Cause(ctx)
		}
		if !errors.Is(err, ErrAbsent) {
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 {
		return none, ErrAbsent
	}
	return none, errors.Join(errs...)
}

// Close stops a reading that is in progress and waits for running probes, at most
// for 2 s each. It returns an error if one still runs, since a call that hangs in
// the driver or on a dead network share cannot be interrupted. It does not close
// the Sources. The System must not be used afterwards.
func (s *System) Close() error {
	s.live.stop()
	ok := s.probes.wait(2 * time.Second)
	if !s.live.wait(2*time.Second) || !ok {
		return errors.New("hwdetect: a probe hangs")
	}
	return nil
}
