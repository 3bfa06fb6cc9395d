package integrity

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/hwdetect"
)

func simulatedRecorder(t *testing.T) *Recorder {
	t.Helper()
	h100, _ := hwdetect.Profile("h100-8")
	r, err := NewRecorder(RecorderConfig{Source: NewSimulated(SimulatedConfig{Machine: h100})})
	require.NoError(t, err)
	return r
}

// A benchmark names its phases, also while the agent is away for a moment.
func TestPhasesThatABenchmarkNames(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		run := Run{Dir: dir, PhaseFile: filepath.Join(dir, "phases.txt")}
		begun := time.Now()
		rec, err := simulatedRecorder(t).Begin(t.Context(), run)
		require.NoError(t, err)
		say := func(text string) {
			f, err := os.OpenFile(run.PhaseFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
			require.NoError(t, err)
			_, err = f.WriteString(text)
			require.NoError(t, err)
			require.NoError(t, f.Close())
		}
		<-time.After(10500 * time.Millisecond)
		say("load model\nhalf of a li")
		<-time.After(5 * time.Second)
		rec.Detach()
		say("ne\n")
		rec, err = simulatedRecorder(t).Resume(t.Context(), run)
		require.NoError(t, err)
		<-time.After(5 * time.Second)
		say("measure \x1b[2Jthroughput\n")
		report, err := rec.End(t.Context(), time.Time{}, nil)
		require.NoError(t, err)
		var names []string
		for _, p := range report.Phases {
			names = append(names, p.Name)
			require.NotNil(t, p.To)
			require.False(t, p.Derived)
		}
		require.Equal(t, []string{"load model", "half of a line"}, names[:2])
		require.Len(t, names, 3)
		require.NotContains(t, names[2], "\x1b")
		require.Equal(t, 11*time.Second, report.Phases[0].From.Sub(begun))
	})
}

func TestPhasesThatAreDerived(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rec, err := simulatedRecorder(t).Begin(t.Context(), Run{Dir: t.TempDir(), PhaseFile: "/nonexistent"})
		require.NoError(t, err)
		<-time.After(10 * time.Second)
		report, err := rec.End(t.Context(), time.Time{}, nil)
		require.NoError(t, err)
		require.Len(t, report.Phases, 3)
		require.Equal(t, "measure", report.Phases[1].Name)
		require.True(t, report.Phases[1].Derived)
	})
}

// A benchmark's file of phases reveals no other file, holds nothing up and is bounded.
func TestHostilePhases(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	require.NoError(t, os.WriteFile(secret, []byte("password\n"), 0o600))
	require.NoError(t, os.Symlink(secret, filepath.Join(dir, "link")))
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	for _, name := range []string{"link", "pipe", "."} {
		names, err := readPhases(filepath.Join(dir, name), 0)
		require.Error(t, err, name)
		require.Empty(t, names)
	}
	flood := filepath.Join(dir, "flood")
	require.NoError(t, os.WriteFile(flood, []byte(strings.Repeat("x\n", 1<<20)), 0o600))
	names, err := readPhases(flood, 0)
	require.NoError(t, err)
	require.Len(t, names, maxPhases)
	var r Report
	r.addPhases(names, time.Now())
	r.addPhases(names, time.Now())
	require.Len(t, r.Phases, maxPhases)
}

func FuzzPhases(f *testing.F) {
	f.Add([]byte("measure a\nmeasure b\n"), 1)
	f.Fuzz(func(t *testing.T, text []byte, skip int) {
		names, err := phaseLines(bytes.NewReader(text), skip)
		require.NoError(t, err)
		require.LessOrEqual(t, len(names), maxPhases)
		for _, name := range names {
			require.LessOrEqual(t, len(name), maxPhaseLine+len("…"))
		}
	})
}
