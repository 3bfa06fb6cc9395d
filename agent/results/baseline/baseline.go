// Package baseline keeps what new results are held against: a baseline for each test and
// machine, and how much their results vary. Both are files in the analysis directory of
// a [results.Store].
//
// A baseline is one or several runs of one model, engine and suite on one kind of
// machine. [File.Remarks] says how a new run differs from it, and whether that is noise;
// it fits agent.Config.Remarks. The baseline's figures are copied, so that it outlives
// the jobs that it came from.
package baseline

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/agent/results"
	"github.com/kirizan/kitt-agent/agent/results/compare"
	"github.com/kirizan/kitt-agent/hwdetect/integrity"
	"github.com/kirizan/kitt-agent/internal/base"
)

const (
	baselinesFile = "baselines.json"
	noiseFile     = "noise.json"

	version    = 1        // of both files; keys are only added
	maxFile    = 32 << 20 // bytes of each of them
	maxEntries = 200      // of each of them; the oldest give way
	maxPinned  = 50       // runs of one baseline
)

// A File gives access to the baselines and noise floors of a Store. Its methods may be
// called concurrently. Two programs that write at the same time each keep one whole
// file, and the later one wins.
type File struct{ store *results.Store }

// Of returns the baselines and noise floors of a store. It reads nothing yet.
func Of(store *results.Store) *File { return &File{store} }

// A Baseline is the runs that others of the same test and machine are held against.
type Baseline struct {
	Pinned time.Time      `json:"pinned"`
	Runs   []*results.Run `json:"runs"` // without their reports on the machine
	Clock  float64        `json:"sm_clock_mhz,omitempty"`
}

// Name returns what the baseline is of, such as "llama, vllm, quick, NVIDIA H100".
func (b *Baseline) Name() string {
	r := b.Runs[0]
	parts := []string{r.Model, r.Engine, r.Suite}
	if gpu := r.Identity[results.FieldGPU]; gpu != "" {
		parts = append(parts, gpu)
	}
	return strings.Join(parts, ", ")
}

func (b *Baseline) contains(name string) bool {
	return slices.ContainsFunc(b.Runs, func(r *results.Run) bool { return r.Name() == name })
}

// A document is one of the two files.
type document[T any] struct {
	Version int `json:"version"`
	All     []T `json:"entries"` // the newest first
}

// Baselines returns all baselines, the newest first.
func (f *File) Baselines() ([]Baseline, error) {
	all, err := readAll[Baseline](f.store, baselinesFile)
	return slices.DeleteFunc(all, func(b Baseline) bool { return len(b.Runs) == 0 || slices.Contains(b.Runs, nil) }), err
}

// Noise returns all noise floors, the newest first.
func (f *File) Noise() ([]compare.Noise, error) { return readAll[compare.Noise](f.store, noiseFile) }

// readAll returns the entries of a file, none if there is no such file.
func readAll[T any](s *results.Store, name string) ([]T, error) {
	var d document[T]
	err := base.ReadJSON(filepath.Join(s.AnalysisDir(), name), &d, maxFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("%w; delete the file to do without it", err)
	case d.Version > version:
		return nil, fmt.Errorf("%s was written by a newer kitt-agent; update this one", name)
	}
	return d.All, nil
}

func writeAll[T any](s *results.Store, name string, all []T) error {
	text, err := base.EncodeJSON(document[T]{version, all[:min(len(all), maxEntries)]})
	if err != nil {
		return err
	}
	if len(text) > maxFile {
		return fmt.Errorf("%s: %w: more than %s", name, base.ErrTooLarge, base.Size(maxFile))
	}
	return s.WriteFile(name, text)
}

// SetNoise keeps a noise floor, in place of one of the same test and machine.
func (f *File) SetNoise(n compare.Noise) error {
	all, err := f.Noise()
	if err != nil {
		return err
	}
	like := &results.Run{Summary: results.Summary{Model: n.Model, Engine: n.Engine, Suite: n.Suite, Origin: n.Origin}, Identity: n.Identity}
	all = slices.DeleteFunc(all, func(other compare.Noise) bool { return other.Fits(like) })
	return writeAll(f.store, noiseFile, append([]compare.Noise{n}, all...))
}

// Pin makes runs the baseline of their test and machine, in place of the one before. The
// error says which run cannot be one, or that the runs don't belong together.
func (f *File) Pin(runs []*results.Run) (Baseline, error) {
	b := Baseline{Pinned: time.Now().UTC().Round(time.Second)}
	if len(runs) == 0 || len(runs) > maxPinned {
		return b, fmt.Errorf("a baseline has from 1 to %d runs, and not %d", maxPinned, len(runs))
	}
	for _, r := range runs {
		if err := pinnable(r); err != nil {
			return b, err
		}
		if !sameTest(runs[0], r) {
			return b, fmt.Errorf("run %s is of another test or machine than run %s; pin them one by one", r.Name(), runs[0].Name())
		}
		slim := *r
		slim.Report = nil
		b.Runs = append(b.Runs, &slim)
	}
	b.Clock = meanClock(runs)
	all, err := f.Baselines()
	if err != nil {
		return b, err
	}
	all = slices.DeleteFunc(all, func(other Baseline) bool { return sameTest(other.Runs[0], runs[0]) })
	return b, writeAll(f.store, baselinesFile, append([]Baseline{b}, all...))
}

// Unpin removes the baselines that contain a run of one of these names, and returns
// them.
func (f *File) Unpin(names []string) (removed []Baseline, err error) {
	all, err := f.Baselines()
	if err != nil {
		return nil, err
	}
	var kept []Baseline
	for _, b := range all {
		if slices.ContainsFunc(names, b.contains) {
			removed = append(removed, b)
		} else {
			kept = append(kept, b)
		}
	}
	if len(removed) == 0 {
		return nil, nil
	}
	return removed, writeAll(f.store, baselinesFile, kept)
}

// pinnable returns why a run cannot be in a baseline.
func pinnable(r *results.Run) error {
	switch {
	case r.Verdict == integrity.Invalid:
		return fmt.Errorf("run %s is invalid: %s", r.Name(), r.Reason)
	case !r.Completed():
		return fmt.Errorf("run %s is %s, and a baseline needs completed ones", r.Name(), cmp.Or(r.State, "of unknown state"))
	case len(r.Metrics) == 0:
		return fmt.Errorf("run %s measured nothing", r.Name())
	}
	return nil
}

// sameTest reports whether two runs are of one test on one machine, as far as both are
// known.
func sameTest(a, b *results.Run) bool {
	n := compare.Noise{Model: a.Model, Engine: a.Engine, Suite: a.Suite, Origin: a.Origin, Identity: a.Identity}
	return n.Fits(b)
}

// meanClock returns the mean of the runs' SM clocks; 0 if none is known.
func meanClock(runs []*results.Run) float64 {
	var sum, n float64
	for _, r := range runs {
		if mhz := r.SMClockMHz(); mhz > 0 {
			sum, n = sum+mhz, n+1
		}
	}
	return sum / max(n, 1)
}
