package docker

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner"
)

func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"version":1,"job":"j","container":"abc","supervised":true,"end":{"code":1,"started":"2026-01-01T00:00:00Z"}}`))
	f.Add([]byte(`{"version":2,"job":"j"}`))
	f.Add([]byte(`{"version":1,"job":"other"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		job := runner.Job{ID: "j", Dir: t.TempDir()}
		require.NoError(t, os.MkdirAll(filepath.Dir(recordPath(job)), 0o700))
		require.NoError(t, os.WriteFile(recordPath(job), text, 0o600))
		rec, found, err := readRecord(job)
		require.Equal(t, err == nil, found)
		if !found {
			return
		}
		require.Equal(t, "j", rec.Job)
		require.NoError(t, writeRecord(job, rec))
		again, found, err := readRecord(job)
		require.NoError(t, err)
		require.True(t, found)
		require.Equal(t, rec, again)
	})
}
