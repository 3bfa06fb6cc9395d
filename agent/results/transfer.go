package results

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/hwdetect/integrity"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
)

// ExportSchema names the form of a file with exported runs: lines of JSON, compressed
// with gzip. The first line is an object with schema, agent and exported. Each further
// line is a run with what it was derived from. No line holds a path.
const ExportSchema = "kitt-agent/results-export/1"

// Limits of a file with exported runs.
const (
	maxExportLine = 64 << 20 // bytes of one line, which holds one run
	maxExport     = 4 << 30  // bytes of all lines
	maxExported   = 100_000  // runs
	maxSamples    = 32 << 20 // bytes of one run's samples; longer ones are not exported
	maxRejected   = 20       // reasons that are named

	recordSuffix  = ".json"
	samplesSuffix = ".csv"
)

// exportHeader is the first line of an export.
type exportHeader struct {
	Schema   string    `json:"schema"`
	Agent    string    `json:"agent"`
	Exported time.Time `json:"exported"`
}

// A record is a run with what it is derived from. Nothing that follows from Data and
// Report is believed when it is read.
type record struct {
	Run     Summary         `json:"run"`
	Image   string          `json:"image,omitempty"`
	Data    map[string]any  `json:"result_data,omitempty"`
	Report  json.RawMessage `json:"integrity,omitempty"`
	Samples string          `json:"telemetry,omitempty"`
}

// Export writes runs to w, for [Store.Import] elsewhere. With samples they can be drawn
// there. agent is the name under which those runs are known there that name none. The
// sentences in omitted say what was left out.
func (s *Store) Export(ctx context.Context, w io.Writer, agent string, runs []Summary, samples bool) (omitted []string, err error) {
	z := gzip.NewWriter(w)
	lines := json.NewEncoder(z)
	lines.SetEscapeHTML(false)
	if err := lines.Encode(exportHeader{ExportSchema, agent, time.Now().UTC().Round(time.Second)}); err != nil {
		return nil, err
	}
	for _, sum := range runs {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		run, err := s.Load(sum)
		if err != nil {
			return nil, err
		}
		rec := record{Run: run.Summary, Image: run.Identity[FieldImage], Data: run.data, Report: run.rawReport}
		rec.Run.Agent = cmp.Or(run.Agent, agent)
		if !json.Valid(rec.Report) {
			rec.Report = nil
		}
		if samples && run.samples != "" {
			if rec.Samples, err = run.samplesText(); err != nil {
				omitted = append(omitted, fmt.Sprintf("run %s: samples: %v", run.ID, err))
			}
		}
		if err := lines.Encode(rec); err != nil {
			return nil, err
		}
	}
	return omitted, z.Close()
}

// samplesText returns the file with the samples.
func (r *Run) samplesText() (string, error) {
	f, err := base.OpenRegular(r.samples)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var in io.Reader = f
	if strings.HasSuffix(r.samples, zipped) {
		if in, err = gzip.NewReader(f); err != nil {
			return "", err
		}
	}
	text, err := io.ReadAll(io.LimitReader(in, maxSamples+1))
	if err == nil && len(text) > maxSamples {
		err = fmt.Errorf("%w: more than %s", base.ErrTooLarge, base.Size(maxSamples))
	}
	if err != nil {
		return "", err
	}
	return string(text), nil
}

// An Imported says what became of the runs of an import.
type Imported struct {
	Runs     []string `json:"runs"`               // names of the runs that are new
	Known    int      `json:"known"`              // runs that were there already
	Rejected []string `json:"rejected,omitempty"` // why other runs were not imported; at most 20
	More     int      `json:"more,omitempty"`     // further ones that were not
}

func (i *Imported) reject(line int, err error) {
	if len(i.Rejected) == maxRejected {
		i.More++
		return
	}
	i.Rejected = append(i.Rejected, fmt.Sprintf("line %d: %s", line, base.Printable(base.OneLine(err.Error()), maxProblem)))
}

// Import adds the runs of a file that Export wrote, or the one run of a metrics.json.
// The runs are kept in AnalysisDir, below names that the Store chooses, and never
// replace another run. A line that cannot be used is in Rejected, and the others are
// imported all the same. Import trusts nothing in the file but what can't be checked:
// the figures themselves. The error says why nothing, or not the rest, was imported.
//
// It reads at most 4 GiB, 100,000 runs and 64 MiB for each, and holds one run in memory.
func (s *Store) Import(ctx context.Context, r io.Reader) (Imported, error) {
	return s.importWithin(ctx, r, maxExport, maxExportLine)
}

func (s *Store) importWithin(ctx context.Context, r io.Reader, limit int64, lineLimit int) (done Imported, err error) {
	in := bufio.NewReaderSize(r, 64<<10)
	if magic, _ := in.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(in)
		if err != nil {
			return done, err
		}
		in = bufio.NewReaderSize(z, 64<<10)
	}
	budget := limit
	first, err := readLine(in, &budget, lineLimit)
	if err != nil {
		return done, fmt.Errorf("the first line: %w", err)
	}
	var head exportHeader
	if json.Unmarshal(first, &head) != nil || head.Schema == "" {
		return s.importMetrics(first, in)
	}
	if head.Schema != ExportSchema {
		return done, fmt.Errorf("schema %s is not %s; a newer kitt-agent may have written it", base.Printable(strconv.Quote(head.Schema), 80), ExportSchema)
	}
	for line := 2; ; line++ {
		if err := context.Cause(ctx); err != nil {
			return done, err
		}
		text, err := readLine(in, &budget, lineLimit)
		switch {
		case errors.Is(err, io.EOF):
			return done, nil
		case errors.Is(err, base.ErrTooLarge) && budget > 0:
			done.reject(line, err)
			continue
		case err != nil:
			return done, fmt.Errorf("line %d: %w", line, err)
		case line-1 > maxExported:
			return done, fmt.Errorf("there are more than %d runs", maxExported)
		}
		name, isNew, err := s.importRun(text, head)
		if errIsDisk(err) {
			return done, err
		}
		switch {
		case err != nil:
			done.reject(line, err)
		case isNew:
			done.Runs = append(done.Runs, name)
		default:
			done.Known++
		}
	}
}

// errIsDisk reports whether an import cannot go on because of err.
func errIsDisk(err error) bool {
	return base.Transient(err) || errors.Is(err, fs.ErrPermission)
}

// readLine returns the next line without its end. It takes what it reads off the budget.
// A line of more than limit bytes is skipped, and the error matches base.ErrTooLarge.
// The error is io.EOF at the end.
func readLine(r *bufio.Reader, budget *int64, limit int) (line []byte, err error) {
	tooLong := false
	for {
		part, err := r.ReadSlice('\n')
		*budget -= int64(len(part))
		if *budget <= 0 {
			return nil, fmt.Errorf("%w: the file is too long", base.ErrTooLarge)
		}
		if tooLong = tooLong || len(line)+len(part) > limit; !tooLong {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case tooLong && (err == nil || errors.Is(err, io.EOF)):
			return nil, fmt.Errorf("%w: more than %s", base.ErrTooLarge, base.Size(int64(limit)))
		case errors.Is(err, io.EOF) && len(line) > 0:
			return bytes.TrimSpace(line), nil
		case err != nil:
			return nil, err
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			return line, nil
		}
	}
}

// importRun keeps the run of one line.
func (s *Store) importRun(text []byte, head exportHeader) (name string, isNew bool, err error) {
	var rec record
	if err := json.Unmarshal(text, &rec); err != nil {
		return "", false, err
	}
	rec.Run.Origin = cmp.Or(base.Printable(base.OneLine(cmp.Or(rec.Run.Origin, rec.Run.Agent, head.Agent)), 100), "unknown")
	return s.keep(rec)
}

// importMetrics keeps the run of a metrics.json, which begins with the line begin.
func (s *Store) importMetrics(begin []byte, rest io.Reader) (done Imported, err error) {
	text := append(begin, '\n')
	more, err := io.ReadAll(io.LimitReader(rest, maxData))
	if err != nil {
		return done, err
	}
	text = append(text, more...)
	data, err := runner.ReadMetrics(bytes.NewReader(text))
	if err != nil {
		return done, fmt.Errorf("it is neither an export nor a %s: %w", runner.MetricsFile, err)
	}
	sum := sha256.Sum256(text)
	rec := record{Data: data, Run: Summary{ID: hex.EncodeToString(sum[:8]), Origin: runner.MetricsFile, State: stateCompleted}}
	if at, err := time.ParseInLocation("2006-01-02T15:04:05.999999", textOf(data, "timestamp"), time.Local); err == nil {
		rec.Run.Ended = at
	}
	name, isNew, err := s.keep(rec)
	switch {
	case err != nil:
		return done, err
	case isNew:
		done.Runs = []string{name}
	default:
		done.Known = 1
	}
	return done, nil
}

// keep writes an imported run, unless it is there.
func (s *Store) keep(rec record) (name string, isNew bool, err error) {
	if err := rec.clean(); err != nil {
		return "", false, err
	}
	if local, err := Read(filepath.Join(s.dir, jobsDir, rec.Run.ID)); err == nil && (local.Agent == rec.Run.Origin) {
		return "", false, nil // it is this machine's own
	}
	sum := sha256.Sum256([]byte(rec.Run.Origin + "\x00" + rec.Run.ID))
	file := filepath.Join(importedDir, hex.EncodeToString(sum[:16]))
	samples := rec.Samples
	rec.Samples = ""
	text, err := base.EncodeJSON(rec)
	if err != nil {
		return "", false, err
	}
	there, err := os.ReadFile(filepath.Join(s.AnalysisDir(), file+recordSuffix))
	switch {
	case err == nil && bytes.Equal(there, text):
		return "", false, nil
	case err == nil:
		return "", false, fmt.Errorf("another run %s was imported before; delete %s to replace it", rec.Run.Name(), filepath.Join(s.AnalysisDir(), file+recordSuffix))
	case !errors.Is(err, fs.ErrNotExist):
		return "", false, err
	}
	if samples != "" {
		if err := s.WriteFile(file+samplesSuffix, []byte(samples)); err != nil {
			return "", false, err
		}
	}
	return rec.Run.Name(), true, s.WriteFile(file+recordSuffix, text)
}

// clean bounds a record from elsewhere, and returns an error if it is none.
func (rec *record) clean() error {
	run := &rec.Run
	if !jobs.ValidID(run.ID) {
		return fmt.Errorf("%s is not an id", base.Printable(strconv.Quote(run.ID), 80))
	}
	if !jobs.State(run.State).Valid() {
		return fmt.Errorf("%s is not a state", base.Printable(strconv.Quote(run.State), 80))
	}
	if len(rec.Samples) > maxSamples || len(rec.Report) > integrity.MaxReport {
		return fmt.Errorf("%w: samples or report", base.ErrTooLarge)
	}
	for _, at := range []time.Time{run.Accepted, run.Started, run.Ended} {
		if year := at.Year(); year < 0 || year > 9998 {
			return errors.New("a time is out of range")
		}
	}
	for _, text := range []*string{
		&run.TestID, &run.Agent, &run.AgentVersion, &run.Model, &run.Engine, &run.Suite, &run.Mode, &run.Benchmark, &rec.Image,
	} {
		*text = base.Printable(base.OneLine(*text), maxText)
	}
	// These follow from the rest.
	run.Passed, run.Verdict, run.Reason, run.Headline, run.Problems = nil, "", "", nil, nil
	if len(rec.Data) == 0 && len(rec.Report) == 0 && run.State == stateCompleted {
		return errors.New("there is neither result data nor a report")
	}
	return nil
}

// readRecord reads an imported run. path has no suffix.
func readRecord(path string) (*Run, error) {
	var rec record
	if err := base.ReadJSON(path+recordSuffix, &rec, maxExportLine); err != nil {
		return nil, err
	}
	if err := rec.clean(); err != nil {
		return nil, err
	}
	r := &Run{Summary: rec.Run, Identity: Identity{FieldImage: rec.Image}, data: rec.Data, rawReport: rec.Report}
	if string(rec.Report) == "null" {
		r.rawReport = nil
	}
	if base.Exists(path + samplesSuffix) {
		r.samples = path + samplesSuffix
	}
	r.derive()
	return r, nil
}
