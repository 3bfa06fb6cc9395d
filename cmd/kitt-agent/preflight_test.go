package main

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHardware(t *testing.T) {
	a := newTestedAgent(t)
	out, code := a.command(t, "hardware")
	require.Zero(t, code, out)
	require.Contains(t, out, "Fingerprint")
	out, code = a.command(t, "hardware", "--json")
	require.Zero(t, code, out)
	var report map[string]any
	require.NoError(t, json.Unmarshal([]byte(out), &report))
	require.NotEmpty(t, report["fingerprint"])
	require.NotEmpty(t, report["hostname"])
	require.Positive(t, report["memory_bytes"])
}

func TestPreflight(t *testing.T) {
	a := newTestedAgent(t)
	out, code := a.command(t, "preflight", "--json")
	var report struct {
		Checks []struct{ Name, Status, Details, Fix string }
	}
	require.NoError(t, json.Unmarshal([]byte(out), &report), out)
	byName := map[string]string{}
	for _, r := range report.Checks {
		byName[r.Name] = r.Status
		require.NotEmpty(t, r.Details, r.Name)
		if r.Status == "fail" {
			require.NotEmpty(t, r.Fix, r.Name)
		}
	}
	require.GreaterOrEqual(t, len(byName), 13, "%v", byName)
	require.Contains(t, []int{exitOK, exitFailure}, code)

	// A server that is not there is a check that is required.
	out, code = a.command(t, "preflight", "--server", "http://127.0.0.1:9")
	require.Equal(t, exitFailure, code)
	require.Contains(t, out, "127.0.0.1:9")

	// The Python agent's flags, all three.
	models := t.TempDir()
	out, _ = a.command(t, "preflight", "--server", "http://127.0.0.1:9", "--port", "8090", "--model-dir", models)
	require.Contains(t, out, "free at "+models)

	out, code = a.command(t, "start", "--preflight", "--server", "http://127.0.0.1:9")
	require.Equal(t, exitFailure, code)
	require.Contains(t, out, "required checks failed")
}
