package results

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/hwdetect/integrity"
)

const head = `{"schema":"kitt-agent/results-export/1","agent":"gpu-07"}` + "\n"

// line returns a line of an export with a run of this id, and further keys.
func line(id, further string) string {
	return fmt.Sprintf(`{"run":{"id":%q,"state":"completed","model":"m","ended":"2026-11-29T12:00:00Z"},"result_data":{"tokens_per_second":3}%s}`+"\n", id, further)
}

// files returns the paths of all files below dir.
func files(t *testing.T, dir string) (paths []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			paths = append(paths, path)
		}
		return err
	}))
	return paths
}

func TestImportHostile(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		text     string
		runs     int
		rejected string
		err      string
	}{
		"one":                 {text: head + line("a", ""), runs: 1},
		"last line cut":       {text: head + line("a", "") + `{"run":{"id":"b`, runs: 1, rejected: "line 3"},
		"empty lines":         {text: head + "\n\n" + line("a", "") + "\n", runs: 1},
		"path as id":          {text: head + line("../../../etc/cron.d/x", "") + line("b", ""), runs: 1, rejected: "is not an id"},
		"absolute path as id": {text: head + line("/tmp/x", ""), rejected: "is not an id"},
		"hidden id":           {text: head + line(".removed", ""), rejected: "is not an id"},
		"path as origin":      {text: head + strings.Replace(line("a", ""), `"id"`, `"origin":"../../../../tmp/x","id"`, 1), runs: 1},
		"no state":            {text: head + strings.Replace(line("a", ""), "completed", "running\\u001b", 1), rejected: "is not a state"},
		"no data":             {text: head + `{"run":{"id":"a","state":"completed"}}`, rejected: "neither result data nor"},
		"not objects":         {text: head + "[]\n3\n\"x\"\n" + line("a", ""), runs: 1, rejected: "line 2"},
		"time out of range":   {text: head + strings.Replace(line("a", ""), "2026-", "9999-", 1), rejected: "out of range"},
		"deep":                {text: head + line("a", `,"integrity":`+strings.Repeat("[", 20_000)+strings.Repeat("]", 20_000)), rejected: "line 2"},
		"report of rubbish":   {text: head + line("a", `,"integrity":{"schema":7}`), runs: 1},
		"line too long":       {text: head + line("a", `,"telemetry":"`+strings.Repeat("x", 5000)+`"`) + line("b", ""), runs: 1, rejected: "line 2: file too large"},
		"file too long":       {text: head + strings.Repeat(line("a", ""), 2000), err: "the file is too long", runs: 1},
		"newer":               {text: strings.Replace(head, "/1", "/2", 1) + line("a", ""), err: "a newer kitt-agent"},
		"empty":               {err: "the first line"},
		"text":                {text: "hello\nworld", err: "neither an export nor a metrics.json"},
		"zeros":               {text: strings.Repeat("\x00", 9000), err: "too large"},
		"two heads":           {text: head + head + line("a", ""), runs: 1, rejected: "is not an id"},
	} {
		for _, zip := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " ", zip), func(t *testing.T) {
				t.Parallel()
				root := t.TempDir()
				s := Open(filepath.Join(root, "home"))
				require.NoError(t, os.Mkdir(s.dir, 0o700))
				var in io.Reader = strings.NewReader(tt.text)
				if zip {
					var z bytes.Buffer
					w := gzip.NewWriter(&z)
					_, err := io.WriteString(w, tt.text)
					require.NoError(t, err)
					require.NoError(t, w.Close())
					in = &z
				}
				done, err := s.importWithin(t.Context(), in, 200_000, 4000+100*1000*boolInt(name == "deep"))
				if tt.err != "" {
					require.ErrorContains(t, err, tt.err)
				} else {
					require.NoError(t, err)
				}
				require.Len(t, done.Runs, tt.runs)
				rejected := strings.Join(done.Rejected, "\n")
				require.Contains(t, rejected, tt.rejected)
				require.Equal(t, tt.rejected == "", rejected == "")
				require.NotContains(t, rejected, "\x1b")
				for _, path := range files(t, root) {
					require.True(t, strings.HasPrefix(path, filepath.Join(s.AnalysisDir(), "imported")+"/"), path)
				}
				runs, err := s.List(t.Context())
				require.NoError(t, err)
				require.Len(t, runs, tt.runs)
			})
		}
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// A gzip file that is cut off, or not one after its first bytes.
func TestImportBrokenGzip(t *testing.T) {
	t.Parallel()
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, err := io.WriteString(w, head+line("a", "")+line("b", ""))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	s := Open(t.TempDir())
	_, err = s.Import(t.Context(), bytes.NewReader(z.Bytes()[:z.Len()-9]))
	require.Error(t, err)
	_, err = s.Import(t.Context(), strings.NewReader("\x1f\x8bhello"))
	require.Error(t, err)
}

// An imported run never replaces another one, and says where it came from.
func TestImportTwice(t *testing.T) {
	t.Parallel()
	s := Open(t.TempDir())
	done, err := s.Import(t.Context(), strings.NewReader(head+line("a", "")))
	require.NoError(t, err)
	require.Equal(t, []string{"gpu-07/a"}, done.Runs)
	done, err = s.Import(t.Context(), strings.NewReader(head+line("a", "")))
	require.NoError(t, err)
	require.Equal(t, Imported{Known: 1}, done)
	done, err = s.Import(t.Context(), strings.NewReader(head+strings.Replace(line("a", ""), ":3}", ":4}", 1)))
	require.NoError(t, err)
	require.Contains(t, done.Rejected[0], "another run gpu-07/a was imported before")
	runs, err := s.List(t.Context())
	require.NoError(t, err)
	require.Len(t, runs, 1)
	require.Equal(t, 3.0, runs[0].Headline.Value)
	require.Equal(t, "gpu-07", runs[0].Origin)
}

// What follows from a run's files is derived again, and not taken from the export.
func TestImportBelievesNoVerdict(t *testing.T) {
	t.Parallel()
	s := Open(t.TempDir())
	claim := strings.Replace(line("a", ""), `"id"`, `"verdict":"valid","passed":true,"headline":{"name":"x","value":9},"id"`, 1)
	_, err := s.Import(t.Context(), strings.NewReader(head+claim))
	require.NoError(t, err)
	runs, err := s.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, NotJudged, runs[0].Verdict)
	require.Nil(t, runs[0].Passed)
	require.Equal(t, 3.0, runs[0].Headline.Value)
}

func TestImportMetrics(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"kitt-performance.json", "kitt-odd.json"} {
		s := Open(t.TempDir())
		text, err := os.ReadFile("testdata/" + name)
		require.NoError(t, err)
		for i := range 2 {
			done, err := s.Import(t.Context(), bytes.NewReader(text))
			require.NoError(t, err)
			require.Len(t, done.Runs, 1-i)
			require.Equal(t, i, done.Known)
		}
		runs, err := s.List(t.Context())
		require.NoError(t, err)
		require.Len(t, runs, 1)
		require.NotEmpty(t, runs[0].Engine)
		require.Equal(t, 2026, runs[0].Ended.Year())
		require.Equal(t, NotJudged, runs[0].Verdict)
	}
}

func TestImportStops(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Open(t.TempDir()).Import(ctx, strings.NewReader(head+line("a", "")))
	require.ErrorIs(t, err, context.Canceled)
}

// FuzzImport: whatever a file holds, nothing is written elsewhere, and what is imported
// can be listed, loaded and exported again.
func FuzzImport(f *testing.F) {
	f.Add([]byte(head + line("a", "")))
	f.Add([]byte(head + line("../a", `,"integrity":{"schema":"kitt-agent/integrity/1","start":{"time":"2026-11-29T12:00:00Z"},"verdict":{"verdict":"valid"}},"telemetry":"x\n"`)))
	f.Add([]byte(`{"results": [{"test_name": "t", "metrics": {"a": NaN, "b": 1e300}}]}`))
	f.Add([]byte("\x1f\x8b\x08\x00"))
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, _ = io.WriteString(w, head+line("a", ""))
	_ = w.Close()
	f.Add(z.Bytes())
	root := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		home, err := os.MkdirTemp(root, "home")
		require.NoError(t, err)
		defer os.RemoveAll(home)
		s := Open(home)
		done, _ := s.importWithin(t.Context(), bytes.NewReader(text), 1<<20, 64<<10)
		runs, err := s.List(t.Context())
		require.NoError(t, err)
		require.Len(t, runs, len(done.Runs))
		for _, path := range files(t, home) {
			require.True(t, strings.HasPrefix(path, s.AnalysisDir()+"/"), path)
		}
		for _, sum := range runs {
			run, err := s.Load(sum)
			require.NoError(t, err)
			_, _ = run.Samples(func(integrity.Sample) error { return nil })
			_, err = s.Export(t.Context(), io.Discard, "x", []Summary{sum}, true)
			require.NoError(t, err)
			require.NoError(t, WriteCSV(io.Discard, []*Run{run}))
		}
	})
}

func TestCSV(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	require.NoError(t, WriteCSV(&out, []*Run{{
		Summary: Summary{ID: "a", Model: "=HYPERLINK(1)", State: "completed", Ended: time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)},
		Metrics: []Metric{{Name: "+x", Value: -1.5, Repetitions: 2}},
	}, {Summary: Summary{ID: "b", State: "failed"}}}))
	lines := strings.Split(out.String(), "\n")
	require.Equal(t, "a,,,,'=HYPERLINK(1),,,completed,2026-11-29T12:00:00Z,,,,,,,,,,'+x,-1.5,2", lines[1])
	require.Equal(t, "b,,,,,,,failed,,,,,,,,,,,,,", lines[2])
}

func TestListCSV(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	require.NoError(t, WriteListCSV(&out, []Summary{{ID: "a", Model: "@x", Headline: &Metric{Name: "tps", Value: -2.5}}, {ID: "b"}}))
	lines := strings.Split(out.String(), "\n")
	require.Equal(t, "a,,,,,'@x,,,,,,,,,tps,-2.5", lines[1])
	require.Equal(t, "b,,,,,,,,,,,,,,,", lines[2])
}
