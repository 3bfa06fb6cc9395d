package results_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/results"
	"github.com/kirizan/kitt-agent/hwdetect/integrity"
)

// What is exported on one machine is the same on another, samples included.
func TestExportImport(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, kept("a", noon), kept("b", noon.Add(time.Hour)))
	here, there := results.Open(dir), results.Open(t.TempDir())
	for _, samples := range []bool{true, false} {
		var file bytes.Buffer
		omitted, err := here.Export(t.Context(), &file, "gpu-07", list(t, here), samples)
		require.NoError(t, err)
		require.Empty(t, omitted)
		done, err := there.Import(t.Context(), bytes.NewReader(file.Bytes()))
		require.NoError(t, err)
		require.Empty(t, done.Rejected)
		require.Equal(t, samples, len(done.Runs) == 2, done)
		require.Equal(t, !samples, done.Known == 2)

		done, err = here.Import(t.Context(), &file)
		require.NoError(t, err)
		require.Equal(t, results.Imported{Known: 2}, done, "a machine's own runs are not imported")
	}
	want, got := load(t, here, "a"), load(t, there, "gpu-07/a")
	n := 0
	_, err := got.Samples(func(integrity.Sample) error { n++; return nil })
	require.NoError(t, err)
	require.Equal(t, 60, n)
	require.Equal(t, "gpu-07", got.Origin)
	require.Equal(t, want.Metrics, got.Metrics)
	require.Equal(t, want.Identity, got.Identity)
	require.Equal(t, want.Verdict, got.Verdict)
	require.Equal(t, want.Energy, got.Energy)
	require.True(t, want.Ended.Equal(got.Ended))

	// A second hand: the origin stays.
	var file bytes.Buffer
	_, err = there.Export(t.Context(), &file, "laptop", list(t, there), false)
	require.NoError(t, err)
	third := results.Open(t.TempDir())
	done, err := third.Import(t.Context(), &file)
	require.NoError(t, err)
	require.Equal(t, []string{"gpu-07/b", "gpu-07/a"}, done.Runs)
}

const nRuns = 10_000

// BenchmarkList lists 10,000 runs: with an index, as each List but the first, and
// without one.
func BenchmarkList(b *testing.B) {
	dir := b.TempDir()
	fill(b, dir, nRuns)
	s := results.Open(dir)
	index := filepath.Join(s.AnalysisDir(), "index.json")
	check := func() {
		runs, err := s.List(b.Context())
		if err != nil || len(runs) != nRuns || runs[0].Headline == nil || runs[0].Verdict != integrity.Valid {
			b.Fatal(len(runs), err)
		}
	}
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			_ = os.Remove(index)
			check()
		}
	})
	b.Run("again", func(b *testing.B) {
		check()
		b.ReportAllocs()
		for b.Loop() {
			check()
		}
	})
}

// fill makes n runs of copies of one.
func fill(tb testing.TB, dir string, n int) {
	tb.Helper()
	const first = "0000000000000000"
	require.NoError(tb, kept(first, noon).Write(dir))
	from := filepath.Join(dir, "jobs", first)
	texts := map[string]string{}
	for _, name := range []string{"command.json", "job.json", "result.json", "integrity.json"} {
		text, err := os.ReadFile(filepath.Join(from, name))
		require.NoError(tb, err)
		texts[name] = string(text)
	}
	old := time.Now().Add(-time.Hour)
	for i := 1; i < n; i++ {
		id := fmt.Sprintf("%016x", i)
		to := filepath.Join(dir, "jobs", id)
		require.NoError(tb, os.Mkdir(to, 0o700))
		for name, text := range texts {
			require.NoError(tb, os.WriteFile(filepath.Join(to, name), []byte(strings.ReplaceAll(text, first, id)), 0o600))
		}
		require.NoError(tb, os.Chtimes(to, old, old))
	}
	require.NoError(tb, os.Chtimes(from, old, old))
}
