package integrity

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/hwdetect"
)

const (
	stateLimit   = 10 * time.Second // for a State; GPUs that sleep take seconds to wake
	cacheLimit   = 2 * time.Second  // for a look at the page cache
	processLimit = 4 * time.Second  // for a list of processes
	processPause = 5 * time.Second  // between two lists

	minInterval = 100 * time.Millisecond
	maxInterval = time.Minute

	// lateEnd is how long after the end of a run its last State may be read without
	// a gap that says so.
	lateEnd = 15 * time.Second
)

// A RecorderConfig says how a [Recorder] records runs. Source is required.
type RecorderConfig struct {
	// Source reads the machine. One that is a [hwdetect.ProcessReader] too tells
	// which processes use the GPUs.
	Source Source

	// Interval is the time between two samples, from 100 ms to 1 min. Defaults to
	// 1 s.
	Interval time.Duration

	// Rules judge runs. Defaults to [DefaultRules]; an empty slice is no rules.
	Rules []Rule

	// Judges judge runs in addition to Rules.
	Judges []Judge

	// Sampled, if set, is called with each sample of a recording, possibly
	// concurrently, and returns at once.
	Sampled func(Sample)

	// Logger receives what goes wrong. Defaults to discarding it.
	Logger *slog.Logger
}

// A Recorder records the state of the machine during runs. Its methods are safe for
// concurrent use.
type Recorder struct {
	cfg RecorderConfig

	states, samples, processes, watches, caches line // each has one call to the source at a time
}

// NewRecorder returns a Recorder. It starts nothing and reads nothing.
func NewRecorder(cfg RecorderConfig) (*Recorder, error) {
	if cfg.Interval == 0 {
		cfg.Interval = time.Second
	}
	if cfg.Rules == nil {
		cfg.Rules = DefaultRules()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case cfg.Source == nil:
		return nil, errors.New("integrity: Source is missing")
	case cfg.Interval < minInterval || cfg.Interval > maxInterval:
		return nil, fmt.Errorf("integrity: Interval %s is not from %s to %s", cfg.Interval, minInterval, maxInterval)
	}
	return &Recorder{cfg: cfg, states: newLine(), samples: newLine(), processes: newLine(), watches: newLine(), caches: newLine()}, nil
}

// A Run is what is recorded.
type Run struct {
	// Dir is where the files of the recording are kept: [ReportFile], and
	// [SamplesFile] while it goes on. The benchmark must not be able to write there.
	Dir string

	// Identity is what comparable runs share, as far as it is known before the run.
	Identity map[string]string

	// Model are the files and directories of the model, of which the report says how
	// much was in memory before the run. Empty for a model that an engine fetches.
	Model []string

	// PhaseFile is a file to which the benchmark may append a line when a phase of it
	// begins, such as "measure throughput": at most 1,000 of 200 bytes. Empty for none.
	PhaseFile string

	// Neighbours returns the names of other runs on this machine at the moment. It
	// returns at once. Nil means that there are none.
	Neighbours func() []string

	// Foreign picks the processes that do not belong to the run. Nil means that nobody
	// can tell.
	Foreign ForeignFunc

	// Watch returns what is wrong at the moment, beyond what the Source shows: reasons
	// with a code, a severity and a text. It is called every 5 s and has 4 s. Nil means
	// that there is nothing to watch.
	Watch func(ctx context.Context) []Reason
}

// A ForeignFunc returns those of the processes that belong to others. It returns soon
// after ctx is done.
type ForeignFunc func(ctx context.Context, processes []hwdetect.GPUProcess) ([]hwdetect.GPUProcess, error)

// Foreign returns the processes of others that use the GPUs now, as foreign tells them.
// The error matches [hwdetect.ErrAbsent] if the Source lists no processes. It waits for a
// list for at most 4 s.
func (r *Recorder) Foreign(ctx context.Context, foreign ForeignFunc) ([]hwdetect.GPUProcess, error) {
	reader, ok := r.cfg.Source.(hwdetect.ProcessReader)
	if !ok {
		return nil, hwdetect.ErrAbsent
	}
	return ask(ctx, r.processes, processLimit, func(ctx context.Context) ([]hwdetect.GPUProcess, error) {
		all, err := reader.Processes(ctx)
		if err != nil || len(all) == 0 {
			return nil, err
		}
		return foreign(ctx, all)
	})
}

// Sample returns a sample of the Source. It waits for at most the time between two.
func (r *Recorder) Sample(ctx context.Context) (Sample, error) {
	return ask(ctx, r.samples, r.cfg.Interval, r.cfg.Source.Sample)
}

// A Recording is the recording of one run. It is over after End, Detach or Discard,
// which may be called several times, and not concurrently.
type Recording struct {
	recorder *Recorder
	run      Run
	report   Report // its Start is the proof; set before sampling begins

	stop     context.CancelFunc
	sampling sync.WaitGroup
	over     bool

	sampler *sampler // owned by the sampling goroutine until it has ended
	company *company // likewise
}

// Begin reads the state of the machine and writes it to run.Dir, and then takes
// samples until the recording is over. It removes what an earlier recording left
// there. A GPU that does not answer costs up to 10 s.
//
// An error means that the state is not on disk. The recording goes on all the same:
// without a restart of the program nothing is lost.
func (r *Recorder) Begin(ctx context.Context, run Run) (*Recording, error) {
	rec := &Recording{recorder: r, run: run}
	removed := removeFiles(run.Dir)
	rec.report = Report{Schema: Schema, Identity: run.Identity}
	rec.lookAtModel(ctx)
	rec.report.Start = r.state(ctx)
	err := rec.write()
	rec.start(Summary{}, false)
	return rec, errors.Join(err, removed)
}

// Resume continues the recording of a run that an earlier program began, and notes the
// time in between. Without a file of that program, it reads a state that comes too late,
// and says so. A run whose end is on disk already is not recorded again.
//
// An error means what it means for Begin.
func (r *Recorder) Resume(ctx context.Context, run Run) (*Recording, error) {
	report, err := ReadReport(filepath.Join(run.Dir, ReportFile))
	if err != nil {
		reason := "the state before the run is not on disk; it was read when the program started again"
		if !errors.Is(err, fs.ErrNotExist) {
			reason += ": " + err.Error()
		}
		report = Report{Schema: Schema, Start: r.state(ctx)}
		report.Gaps = append(report.Gaps, Gap{What: gapStart, Reason: reason, To: new(report.Start.Time)})
	}
	rec := &Recording{recorder: r, run: run, report: report}
	if report.Identity == nil {
		rec.report.Identity = run.Identity
	}
	if report.End != nil {
		rec.over = true
		return rec, nil
	}
	summary, err := Summarize(filepath.Join(run.Dir, SamplesFile))
	if err != nil {
		rec.gap(Gap{What: gapSamples, Reason: "earlier samples cannot be read: " + err.Error()})
	}
	from := report.Start.Time
	if summary.last != nil {
		from = summary.last.Time
	}
	rec.gap(Gap{What: gapSamples, Reason: "the agent was not running", From: &from, To: new(time.Now().Round(0))})
	err = rec.write()
	rec.start(summary, true)
	return rec, err
}

// What gaps of a report are called.
const (
	gapStart      = "start"
	gapEnd        = "end"
	gapSamples    = "samples"
	gapGPUSamples = "gpu_samples"
	gapProcesses  = "processes"
	gapNeighbours = "neighbours"
)

// state reads the state of the machine, and one with a gap alone if it can't.
func (r *Recorder) state(ctx context.Context) State {
	s, err := ask(ctx, r.states, stateLimit, r.cfg.Source.State)
	if s.Time.IsZero() {
		s.Time = time.Now().Round(0)
	}
	if err != nil {
		r.cfg.Logger.Warn("state of the machine not read", "err", err)
		s.Gaps = append(s.Gaps, Gap{What: "machine", Reason: err.Error()})
	}
	return s
}

// maxReportGaps bounds the gaps of a report, apart from those of its states and samples.
const maxReportGaps = 100

func (rec *Recording) gap(g Gap) {
	if len(rec.report.Gaps) < maxReportGaps {
		rec.report.Gaps = append(rec.report.Gaps, g)
	}
}

// lookAtModel looks how much of the model is in memory.
func (rec *Recording) lookAtModel(ctx context.Context) {
	if len(rec.run.Model) == 0 {
		return
	}
	cache, err := ask(ctx, rec.recorder.caches, cacheLimit, func(ctx context.Context) (*PageCache, error) {
		return pageCacheOf(ctx, rec.run.Model)
	})
	if err != nil {
		rec.gap(Gap{What: "page_cache", Reason: gapReason(err)})
	}
	rec.report.PageCache = cache
}

// write writes the report of the run as it is known so far.
func (rec *Recording) write() error {
	cfg := rec.recorder.cfg
	e := rec.evidence(nil, Summary{})
	return WriteReport(filepath.Join(rec.run.Dir, ReportFile), rec.filled(NewReport(&e, rec.report.Identity, cfg.Rules, cfg.Judges...)))
}

// evidence returns what is known of the run.
func (rec *Recording) evidence(end *State, samples Summary) Evidence {
	e := Evidence{
		Start: rec.report.Start, End: end, Samples: samples,
		Foreign: rec.report.Foreign, ForeignKnown: rec.report.ForeignKnown, Neighbours: rec.report.Neighbours,
		Observed: rec.report.Observed,
	}
	for _, g := range rec.report.Gaps {
		e.StartMissing = e.StartMissing || g.What == gapStart
	}
	return e
}

// filled returns report with what NewReport does not know.
func (rec *Recording) filled(report Report) Report {
	report.Gaps, report.Neighbours, report.Observed = rec.report.Gaps, rec.report.Neighbours, rec.report.Observed
	report.Phases = rec.report.Phases
	report.ForeignKnown, report.PageCache = rec.report.ForeignKnown, rec.report.PageCache
	report.IntervalNS = rec.recorder.cfg.Interval
	return report
}

// start begins to take samples.
func (rec *Recording) start(before Summary, resumed bool) {
	ctx, stop := context.WithCancel(context.Background())
	rec.stop = stop
	rec.sampler = &sampler{recorder: rec.recorder, path: filepath.Join(rec.run.Dir, SamplesFile), summary: before}
	rec.company = newCompany(rec, resumed)
	rec.sampling.Go(func() { rec.sampler.run(ctx) })
	rec.sampling.Go(func() { rec.company.run(ctx) })
}

// halt ends the samples, and reports whether the recording went on until now.
func (rec *Recording) halt() bool {
	if rec.over {
		return false
	}
	rec.over = true
	rec.stop()
	rec.sampling.Wait()
	return true
}

// Detach ends the samples and leaves the files for [Recorder.Resume].
func (rec *Recording) Detach() { rec.halt() }

// Discard ends the samples and removes the files, as for a run that never began.
func (rec *Recording) Discard() error {
	rec.halt()
	return removeFiles(rec.run.Dir)
}

// End reads the state after the run, judges it and writes the report. ended is when the
// run ended, zero if that is not known. identity is what is known only now; its keys
// replace those of Begin. A GPU that does not answer costs up to 10 s.
//
// An error means that the report is not on disk.
func (rec *Recording) End(ctx context.Context, ended time.Time, identity map[string]string) (Report, error) {
	if !rec.halt() {
		return rec.report, nil
	}
	r := rec.recorder
	end := r.state(ctx)
	rec.company.lookForPhases()
	rec.company.look(ctx)
	if late := end.Time.Sub(ended); !ended.IsZero() && late > lateEnd {
		rec.gap(Gap{What: gapEnd, Reason: fmt.Sprintf("the state after the run was read %s late", late.Round(time.Second)), From: &ended, To: new(end.Time)})
	}
	for _, g := range rec.sampler.gaps() {
		rec.gap(g)
	}
	merged := map[string]string{}
	for _, part := range []map[string]string{rec.report.Identity, identity} {
		for key, value := range part {
			merged[key] = value
		}
	}
	summary := rec.sampler.summary
	summary.Finish()
	e := rec.evidence(&end, summary)
	rec.report = rec.filled(NewReport(&e, merged, r.cfg.Rules, r.cfg.Judges...))
	rec.report.endPhases(end.Time)
	return rec.report, rec.Save()
}

// Save writes the report that End returned again, after a disk refused it.
func (rec *Recording) Save() error {
	return WriteReport(filepath.Join(rec.run.Dir, ReportFile), rec.report)
}

// removeFiles removes the files of a recording from dir.
func removeFiles(dir string) error {
	var errs []error
	for _, name := range []string{ReportFile, SamplesFile, TelemetryFile, TelemetryFile + zipped} {
		errs = append(errs, ignoreMissing(os.Remove(filepath.Join(dir, name))))
	}
	return errors.Join(errs...)
}
