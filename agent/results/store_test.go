package results_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/results"
	"github.com/kirizan/kitt-agent/agent/results/resultstest"
	"github.com/kirizan/kitt-agent/hwdetect/integrity"
)

var noon = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// kept returns a valid run.
func kept(id string, ended time.Time) resultstest.Kept {
	return resultstest.Kept{
		ID: id, Ended: ended, Image: "sha256:1", Data: resultstest.Throughput(2500),
		Report: resultstest.Report(ended.Add(-time.Minute), ended, 1965, 0), Samples: resultstest.Samples(ended.Add(-time.Minute), ended, 1965),
	}
}

func write(t *testing.T, dir string, all ...resultstest.Kept) {
	t.Helper()
	for _, k := range all {
		require.NoError(t, k.Write(dir))
	}
}

func list(t *testing.T, s *results.Store) []results.Summary {
	t.Helper()
	runs, err := s.List(t.Context())
	require.NoError(t, err)
	return runs
}

// load returns the one run that a word selects.
func load(t *testing.T, s *results.Store, word string) *results.Run {
	t.Helper()
	found, err := s.Find(t.Context(), word)
	require.NoError(t, err)
	require.Len(t, found, 1)
	run, err := s.Load(found[0])
	require.NoError(t, err)
	return run
}

func TestList(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.Empty(t, list(t, results.Open(dir)), "an agent without jobs")
	hot := kept("b", noon.Add(time.Hour))
	hot.Report = resultstest.Report(noon.Add(time.Hour-time.Minute), noon.Add(time.Hour), 1500, 6*time.Second)
	write(t, dir, kept("a", noon), hot, resultstest.Kept{ID: "c", Ended: noon.Add(2 * time.Hour), Failed: true},
		resultstest.Kept{ID: "d", Ended: noon.Add(3 * time.Hour), Data: resultstest.Throughput(1)})
	require.NoError(t, os.Mkdir(filepath.Join(dir, "jobs", "lost+found"), 0o700))
	runs := list(t, results.Open(dir))
	require.Len(t, runs, 4)
	var lines []string
	for _, r := range runs {
		lines = append(lines, fmt.Sprint(r.ID, " ", r.State, " ", r.Verdict, " ", r.Headline != nil, " ", r.Problems))
	}
	require.Equal(t, []string{
		"d completed not judged true []", "c failed not judged false []", "b completed invalid true []", "a completed valid true []",
	}, lines)
	require.Contains(t, runs[2].Reason, "hardware thermal slowdown")
}

func TestLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, kept("a", noon))
	run := load(t, results.Open(dir), "a")
	require.Equal(t, "gpu-07", run.Agent)
	require.Equal(t, results.Identity{
		results.FieldGPU: "NVIDIA H100 80GB HBM3", results.FieldDriver: "550.54.15", results.FieldImage: "sha256:1", results.FieldPowerLimit: "700",
	}, run.Identity)
	require.Equal(t, 2500.0, run.Metric("throughput.avg_tps").Value)
	require.Nil(t, run.Metric("none"))
	require.InDelta(t, 1965, run.SMClockMHz(), 5)
	require.Equal(t, 36000.0, *run.Energy.Joules)
	require.Equal(t, 6.0, *run.Energy.JoulesPerToken)
	samples := 0
	bad, err := run.Samples(func(integrity.Sample) error { samples++; return nil })
	require.NoError(t, err)
	require.Zero(t, bad)
	require.Equal(t, 60, samples)
}

// A result of an agent before integrity and before the key agent.
func TestOlderAgent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data := resultstest.Throughput(10)
	delete(data, "agent")
	write(t, dir, resultstest.Kept{ID: "old", Ended: noon, Data: data})
	run := load(t, results.Open(dir), "old")
	require.Equal(t, results.NotJudged, run.Verdict)
	require.Empty(t, run.Problems)
	require.Equal(t, results.Identity{results.FieldDriver: "550.54.15"}, run.Identity)
	require.Zero(t, run.SMClockMHz())
	require.Nil(t, run.Energy.Joules)
}

// Broken and forged files are named, hide no other run, and are not believed.
func TestBrokenAndForged(t *testing.T) {
	t.Parallel()
	later := noon.Add(3 * time.Hour)
	edit := func(change func(r *integrity.Report)) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			path := filepath.Join(dir, "integrity.json")
			r, err := integrity.ReadReport(path)
			require.NoError(t, err)
			change(&r)
			require.NoError(t, integrity.WriteReport(path, r))
		}
	}
	put := func(name, text string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			require.NoError(t, os.RemoveAll(filepath.Join(dir, name)))
			require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
		}
	}
	for name, tt := range map[string]struct {
		hot     time.Duration
		damage  func(t *testing.T, dir string)
		verdict integrity.Grade
		problem string
		metrics bool
	}{
		"nothing":           {damage: func(*testing.T, string) {}, verdict: integrity.Valid, metrics: true},
		"report cut":        {damage: put("integrity.json", `{"schema":"kitt-agent/integrity/1","start`), verdict: results.NotJudged, problem: "unexpected end", metrics: true},
		"report empty":      {damage: put("integrity.json", ``), verdict: results.NotJudged, problem: "unexpected end", metrics: true},
		"report null":       {damage: put("integrity.json", `null`), verdict: results.NotJudged, problem: `schema ""`, metrics: true},
		"newer report":      {damage: put("integrity.json", `{"schema":"kitt-agent/integrity/2"}`), verdict: results.NotJudged, problem: "a newer agent", metrics: true},
		"report huge":       {damage: put("integrity.json", strings.Repeat(" ", 2<<20)), verdict: results.NotJudged, problem: "too large", metrics: true},
		"report of another": {damage: edit(func(r *integrity.Report) { r.Start.Time, r.End.Time = later, later.Add(time.Minute) }), verdict: results.NotJudged, problem: "another time", metrics: true},
		"verdict made up":   {damage: edit(func(r *integrity.Report) { r.Verdict.Grade = "\x1b[2Jperfect" }), verdict: results.NotJudged, problem: "is not a verdict", metrics: true},
		"verdict improved": {
			hot: 6 * time.Second, damage: edit(func(r *integrity.Report) { r.Verdict = integrity.Verdict{Grade: integrity.Valid, Judged: 9} }),
			verdict: results.NotJudged, problem: "its own counters make it invalid", metrics: true,
		},
		"only the benchmark's": {
			damage: func(t *testing.T, dir string) {
				t.Helper()
				require.NoError(t, os.MkdirAll(filepath.Join(dir, "results"), 0o700))
				require.NoError(t, os.Rename(filepath.Join(dir, "integrity.json"), filepath.Join(dir, "results", "integrity.json")))
			},
			verdict: results.NotJudged, problem: "only where the benchmark could write it", metrics: true,
		},
		"report a pipe's place": {damage: func(t *testing.T, dir string) {
			t.Helper()
			require.NoError(t, os.Remove(filepath.Join(dir, "integrity.json")))
			require.NoError(t, os.Mkdir(filepath.Join(dir, "integrity.json"), 0o700))
		}, verdict: results.NotJudged, problem: "not a regular file", metrics: true},
		"report gone": {damage: func(t *testing.T, dir string) {
			t.Helper()
			require.NoError(t, os.Remove(filepath.Join(dir, "integrity.json")))
		}, verdict: results.NotJudged, problem: "integrity.json is gone; the job's record says: Machine: valid", metrics: true},
		"verdict worsened": {damage: edit(func(r *integrity.Report) { r.Verdict.Grade = integrity.Invalid }), verdict: results.NotJudged, problem: "that in the job's record is valid", metrics: true},
		"result cut":       {damage: put("result.json", `{"version":1,"command_id":"a","result_data":{"mod`), verdict: integrity.Valid, problem: "the agent's report cannot be used"},
		"job cut":          {damage: put("job.json", `{"version":1,"sta`), verdict: integrity.Valid, problem: "job.json", metrics: true},
		"command cut":      {damage: put("command.json", `{"version":1,`), verdict: integrity.Valid, problem: "command.json", metrics: true},
		"result absent": {damage: func(t *testing.T, dir string) {
			t.Helper()
			require.NoError(t, os.Remove(filepath.Join(dir, "result.json")))
		}, verdict: integrity.Valid, problem: "no such file"},
		"metrics alone": {damage: func(t *testing.T, dir string) {
			t.Helper()
			put("result.json", "[]")(t, dir)
			put("results/metrics.json", `{"results": [{"test_name": "throughput", "metrics": {"avg_tps": NaN, "min_tps": 3}}]}`)(t, dir)
		}, verdict: integrity.Valid, problem: "the agent's report cannot be used", metrics: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			k := kept("a", noon)
			k.Report = resultstest.Report(noon.Add(-time.Minute), noon, 1965, tt.hot)
			write(t, dir, k, kept("b", noon))
			tt.damage(t, filepath.Join(dir, "jobs", "a"))
			s := results.Open(dir)
			for range 2 { // without an index and with one
				runs, err := s.Find(t.Context())
				require.NoError(t, err)
				require.Len(t, runs, 2)
			}
			run := load(t, s, "a")
			require.Equal(t, tt.verdict, run.Verdict, run.Problems)
			require.Equal(t, tt.metrics, len(run.Metrics) > 0)
			problems := strings.Join(run.Problems, "\n")
			require.Contains(t, problems, tt.problem)
			require.Equal(t, tt.problem == "", problems == "")
			require.NotContains(t, problems, "\x1b")
			text, err := json.Marshal(run)
			require.NoError(t, err)
			require.NotEmpty(t, text)
		})
	}
}

// The index follows what changes, and is no condition.
func TestIndex(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, kept("a", noon), kept("b", noon.Add(time.Hour)))
	old := time.Now().Add(-time.Hour)
	require.NoError(t, os.Chtimes(filepath.Join(dir, "jobs", "a"), old, old))
	require.NoError(t, os.Chtimes(filepath.Join(dir, "jobs", "b"), old, old))
	s := results.Open(dir)
	first := list(t, s)
	index := filepath.Join(s.AnalysisDir(), "index.json")
	require.FileExists(t, index)
	require.Equal(t, first, list(t, s))

	// It is read: what is only there is shown.
	text, err := os.ReadFile(index)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(index, []byte(strings.ReplaceAll(string(text), `"engine":"vllm"`, `"engine":"from the index"`)), 0o600))
	require.Equal(t, "from the index", list(t, s)[0].Engine)

	// A job that changes is read again, a new one is found and a removed one is gone.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "jobs", "b", "new"), nil, 0o600))
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "jobs", "a")))
	write(t, dir, kept("c", noon.Add(2*time.Hour)))
	runs := list(t, s)
	require.Len(t, runs, 2)
	require.Equal(t, "c", runs[0].ID)
	require.Equal(t, "vllm", runs[1].Engine)

	// What changed a moment ago may change again unseen: it is not in the index.
	text, err = os.ReadFile(index)
	require.NoError(t, err)
	require.NotContains(t, string(text), `"id":"c"`)

	for _, broken := range []string{"", "{", `{"version":99,"entries":{}}`, `[]`, strings.Repeat("[", 20_000)} {
		require.NoError(t, os.WriteFile(index, []byte(broken), 0o600))
		require.Len(t, list(t, s), 2)
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other := kept("abd", noon.Add(time.Hour))
	other.Engine, other.TestID = "ollama", "test-9"
	write(t, dir, kept("abc", noon), other, kept("ab", noon.Add(2*time.Hour)))
	s := results.Open(dir)
	for word, want := range map[string]string{
		"abc": "abc", "ab": "ab", "test-": "abd", "engine=ollama": "abd", "model=qwen,engine=vllm": "ab abc", "until=2026-11-29T12:30:00Z": "abc",
		"since=2026-11-29T12:30:00Z,engine=vllm": "ab", "verdict=valid": "ab abd abc", "agent=gpu-07,version=1.0.0": "ab abd abc",
	} {
		found, err := s.Find(t.Context(), word)
		require.NoError(t, err, word)
		var ids []string
		for _, r := range found {
			ids = append(ids, r.ID)
		}
		require.Equal(t, want, strings.Join(ids, " "), word)
	}
	found, err := s.Find(t.Context(), "abc", "engine=vllm")
	require.NoError(t, err)
	require.Len(t, found, 2, "each run once")

	_, err = s.Find(t.Context(), "zz\x1b")
	require.ErrorIs(t, err, results.ErrNotFound)
	require.NotContains(t, err.Error(), "\x1b")
	for word, want := range map[string]string{
		"a": "beginning of several ids: ab, abd, abc", "color=red": "there is no condition", "model=a,b": "is not a condition", "since=soon": "neither a duration",
	} {
		_, err = s.Find(t.Context(), word)
		var odd *results.SelectorError
		require.ErrorAs(t, err, &odd, word)
		require.ErrorContains(t, err, want)
	}
}

func TestListStops(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, kept("a", noon))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := results.Open(dir).List(ctx)
	require.ErrorIs(t, err, context.Canceled)
	text, err := os.ReadFile(filepath.Join(dir, "analysis", "index.json"))
	require.NoError(t, err)
	require.NotContains(t, string(text), `"a"`, "what was not read is not in the index")
	require.Len(t, list(t, results.Open(dir)), 1)
}

// Long runs have their samples compressed.
func TestZippedSamples(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, kept("a", noon))
	path := filepath.Join(dir, "jobs", "a", "telemetry.csv")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, err = w.Write(text)
	require.NoError(t, errors.Join(err, w.Close(), os.Remove(path), os.WriteFile(path+".gz", z.Bytes(), 0o600)))
	count := func() (n int, err error) {
		_, err = load(t, results.Open(dir), "a").Samples(func(integrity.Sample) error { n++; return nil })
		return n, err
	}
	n, err := count()
	require.NoError(t, err)
	require.Equal(t, 60, n)
	require.NoError(t, os.WriteFile(path+".gz", z.Bytes()[:z.Len()/2], 0o600))
	_, err = count()
	require.Error(t, err)
	require.NoError(t, os.Remove(path+".gz"))
	_, err = count()
	require.ErrorIs(t, err, fs.ErrNotExist)
}
