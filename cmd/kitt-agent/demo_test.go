package main

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
)

// The demo tells of one run time, the benchmark's own, and ends with three commands
// that work.
func TestDemo(t *testing.T) {
	t.Parallel()
	got := newMachine(t).run("demo")
	require.Equal(t, exitOK, got.code, got.err)
	require.Empty(t, got.err)
	require.Contains(t, got.out, "Results: 1/1 passed")
	require.Regexp(t, `(?m)^completed, \d+ log lines, 0 lost$`, got.out)
	require.Len(t, regexp.MustCompile(`\d s\b|\ds\b`).FindAllString(strings.ReplaceAll(got.out, "s an iteration", ""), -1), 1, "%s", got.out)

	_, next, found := strings.Cut(got.out, "\nNext steps\n")
	require.True(t, found, got.out)
	server := controlPlane(t, kittapitest.Config{})
	m := newMachine(t)
	m.vars["KITT_RUNNER"] = "simulated"
	lines := strings.Split(strings.TrimSuffix(next, "\n"), "\n")
	require.Len(t, lines, 3)
	for _, line := range lines {
		_, command, found := strings.Cut(line, os.Args[0]+" ")
		require.True(t, found, line)
		args := strings.Fields(strings.ReplaceAll(command, "https://server:8080", server.URL))
		if args[0] == "simulate" {
			args = append(args, "--speed", "0")
		}
		got := m.run(args...)
		if args[0] == "preflight" { // the machine that tests run on may lack something
			require.Contains(t, []int{exitOK, exitFailure}, got.code, got.err)
			require.Contains(t, got.out, "nvidia driver")
			continue
		}
		require.Equal(t, exitOK, got.code, "%s: %s", command, got.err)
	}
	require.Len(t, server.Results(), 10)
}

func TestDemoJSON(t *testing.T) {
	t.Parallel()
	got := newMachine(t).run("demo", "--json")
	require.Equal(t, exitOK, got.code, got.err)
	var report demoReport
	require.NoError(t, json.Unmarshal([]byte(got.out), &report), got.out)
	require.Equal(t, "completed", report.Status)
	require.Zero(t, report.LostLines)
	require.NotContains(t, got.out, `"seconds"`)
}

func TestCalledAs(t *testing.T) {
	t.Parallel()
	for arg0, want := range map[string]string{
		"kitt-agent":                "kitt-agent",
		"./kitt-agent":              "./kitt-agent",
		"/usr/local/bin/kitt-agent": "/usr/local/bin/kitt-agent",
		"/opt/exe/kitt-agent":       "/opt/exe/kitt-agent",
		"/tmp/go-build1948032765/b001/exe/kitt-agent":  "go run ./cmd/kitt-agent",
		"/root/.cache/go-build/ab/cd-d/exe/kitt-agent": "go run ./cmd/kitt-agent",
	} {
		require.Equal(t, want, calledAs(arg0), arg0)
	}
}
