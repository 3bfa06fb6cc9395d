package integrity

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A restart reads the start from the file and goes on to the same verdict.
func TestReportSurvivesARestart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "integrity.json")
	e := run{gpus: 2, seconds: 100, end: func(s *State) { s.GPUs[1].HWThermal = new(time.Minute + 9*time.Second) }}.evidence()
	end := e.End
	e.End = nil
	require.NoError(t, WriteReport(path, NewReport(e, map[string]string{"driver": "580.95.05"}, DefaultRules())))
	begun, err := ReadReport(path)
	require.NoError(t, err)
	require.Equal(t, Unjudged, begun.Verdict.Grade)
	require.Equal(t, e.Start, begun.Start)

	again := Evidence{Start: begun.Start, End: end, Samples: e.Samples, ForeignKnown: true}
	require.NoError(t, WriteReport(path, NewReport(&again, begun.Identity, DefaultRules())))
	final, err := ReadReport(path)
	require.NoError(t, err)
	require.Equal(t, "Machine: INVALID - hardware thermal slowdown for 9% of 100 s on GPU 1", final.Verdict.Line())
	require.Equal(t, "580.95.05", final.Identity["driver"])
	require.Equal(t, 9*time.Second, *final.Delta[1].HWThermal)
	require.Nil(t, final.Delta[1].PCIeReplays, "it could not be read")
	require.Len(t, final.Rules, len(DefaultRules()))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

func TestReadReportRefusals(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "integrity.json")
	_, err := ReadReport(path)
	require.ErrorIs(t, err, os.ErrNotExist)
	for text, want := range map[string]string{
		`{"schema":"kitt-agent/integrity/2"}`: `schema "kitt-agent/integrity/2" is not kitt-agent/integrity/1`,
		`{"schema":"kitt-agent/integrity/1"}`: "there is no start",
		`{`:                                   "unexpected end",
	} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		_, err := ReadReport(path)
		require.ErrorContains(t, err, want)
	}
}

func FuzzReport(f *testing.F) {
	seed := filepath.Join(f.TempDir(), "seed")
	require.NoError(f, WriteReport(seed, NewReport(run{gpus: 2, seconds: 40}.evidence(), nil, DefaultRules())))
	text, err := os.ReadFile(seed)
	require.NoError(f, err)
	f.Add(text)
	f.Add([]byte(`{"schema":"kitt-agent/integrity/1","start":{"time":"2026-03-01T12:00:00Z"},"end":{"host":{"uptime_ns":-1}}}`))
	path := filepath.Join(f.TempDir(), "integrity.json")
	f.Fuzz(func(t *testing.T, text []byte) {
		require.NoError(t, os.WriteFile(path, text, 0o600))
		r, err := ReadReport(path)
		if err != nil {
			return
		}
		// What a file holds can be judged again, whatever it is.
		again := Evidence{Start: r.Start, End: r.End, Samples: r.Samples, Foreign: r.Foreign, ForeignKnown: true}
		require.Contains(t, []Grade{Valid, Unjudged, Warning, Invalid}, NewReport(&again, nil, DefaultRules()).Verdict.Grade)
	})
}
