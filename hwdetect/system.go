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

// A Config says where and how a System looks. Its zero value looks at the
// machine that the program runs on, without NVML.
type Config struct {
	// Root is a file tree with /proc, /sys, /run and /etc in it. Defaults to
	// the machine's own. A machine of another kind is described by a tree
	// recorded there.
	Root fs.FS

	// ModelDir is where models are kept; Machine.Storage describes the disk
	// behind it. It need not exist. Defaults to nothing: the first disk.
	ModelDir string

	// Sources know the machine's GPUs and are asked in order, before
	// nvidia-smi.
	Sources []Source

	// NVIDIASMI runs nvidia-smi. Defaults to the one on PATH, or to none where
	// Root is set.
	NVIDIASMI RunFunc

	// SMITelemetry lets nvidia-smi give live readings where no source does, at
	// the cost of a new process for each. Defaults to false: no readings.
	SMITelemetry bool

	// ProbeTimeout is the time that one probe gets, from 10 ms to 1.8 s. GPUs
	// get it once for all of their sources. Defaults to 1.5 s.
	ProbeTimeout time.Duration

	// Logger gets what goes wrong. Defaults to discarding it.
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

// System looks at the machine itself. Its methods are safe for concurrent use.
type System struct {
	cfg     Config
	sources []Source
	turn    chan struct{} // held by the Detect that is at work
	probes  probes
	live    telemetry
}

var (
	_ Detector  = (*System)(nil)
	_ Telemeter = (*System)(nil)
)

// New returns a System. It looks at nothing yet.
func New(cfg Config) (*System, error) {
	cfg = cfg.withDefaults()
	if cfg.ProbeTimeout < 10*time.Millisecond || cfg.ProbeTimeout > 1800*time.Millisecond {
		return nil, fmt.Errorf("hwdetect: ProbeTimeout %s is not between 10ms and 1.8s", cfg.ProbeTimeout)
	}
	root := cfg.Root
	if root == nil {
		root = os.DirFS("/")
	}
	s := &System{cfg: cfg, turn: make(chan struct{}, 1)}
	tool := smi{cfg.NVIDIASMI}
	s.sources = append(s.sources, cfg.Sources...)
	s.sources = append(s.sources, tool, driverFiles{root})
	for _, src := range cfg.Sources {
		if t, ok := src.(Telemeter); ok {
			s.live.sources = append(s.live.sources, t)
		}
	}
	if cfg.SMITelemetry {
		s.live.sources = append(s.live.sources, tool)
	}
	s.live.log = cfg.Logger
	return s, nil
}

// Detect looks at the machine, which takes some milliseconds and at most 2 s. It
// looks anew at each call, so that a driver or a GPU that came later is found.
func (s *System) Detect(ctx context.Context) (*Machine, error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
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
	m.take(inv)
	sortGaps(m.Gaps)
	return m, nil
}

// inventory asks the sources of GPUs in order until nothing is missing. They share
// the time of one probe, and each may use half of what is left of it, so that
// nvidia-smi still gets its turn when NVML hangs.
func (s *System) inventory(ctx context.Context) Inventory {
	var inv Inventory
	var gaps []Gap
	trouble := false // whether a source failed that exists
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
		found, late, err := await(ctx, &s.probes, fmt.Sprint("source ", i), limit, src.Inventory)
		left = max(left-time.Since(start), s.cfg.ProbeTimeout/10)
		if _, files := src.(driverFiles); err != nil && !files { // that there are no files is no news
			why := strings.TrimPrefix(err.Error(), src.Name()+": ")
			gaps = append(gaps, Gap{What: src.Name(), Reason: strings.TrimSuffix(why, ": "+ErrAbsent.Error()), Late: late})
			if !errors.Is(err, ErrAbsent) {
				trouble = true
				s.cfg.Logger.DebugContext(ctx, "gpu source failed", "source", src.Name(), "err", err)
			}
		}
		inv.add(found)
		if inv.whole() || ctx.Err() != nil {
			break
		}
	}
	if len(inv.GPUs) == 0 && inv.DriverVersion == "" && len(inv.Gaps) == 0 {
		inv.Gaps = append(inv.Gaps, Gap{What: "gpus", Reason: "no NVIDIA GPU: there is neither a driver nor such a card on the PCI bus"})
		if !trouble {
			return inv // that says it all
		}
	}
	inv.Gaps = append(inv.Gaps, gaps...)
	return inv
}

// take writes what is known of the GPUs into m.
func (m *Machine) take(inv Inventory) {
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

// Telemetry returns the latest reading of the GPUs. A reading older than a
// second is renewed beside the caller, who waits for the new one for at most
// 100 ms. Without a GPU or without a source of readings it is one of no GPUs.
func (s *System) Telemetry(ctx context.Context) (Telemetry, error) {
	return s.live.latest(ctx)
}

// Close waits for what is still being looked at, at most for 2 s: a call that is
// stuck in the driver or on a dead network share cannot be waited for. It does
// not close the Sources. The System must not be used afterwards.
func (s *System) Close() error {
	s.live.stop()
	ok := s.probes.wait(2 * time.Second)
	if !s.live.wait(2*time.Second) || !ok {
		return errors.New("hwdetect: a probe is stuck")
	}
	return nil
}
