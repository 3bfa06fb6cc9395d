package simulated

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner"
)

func TestScenariosThatFail(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		scenario string
		want     runner.ExitError
		lines    int    // printed, "Error: …" included; -1 not looked at
		last     string // within the last line
	}{
		{"fail-at=0", runner.ExitError{Code: 1}, 1, "Error: simulated failure"},
		{"fail-at=3", runner.ExitError{Code: 1}, -1, "Error: simulated failure"},
		{"fail-at=latency", runner.ExitError{Code: 1}, -1, "exit status 1"},
		{"fail-at=model,exit=2", runner.ExitError{Code: 2}, -1, "exit status 2"},
		{"fail-at=9999", runner.ExitError{Code: 1}, -1, "exit status 1"},
		{"fail-at=mmlu", runner.ExitError{Code: 1}, -1, "exit status 1"}, // not in this suite: after the last line
		{"exit=3", runner.ExitError{Code: 3}, -1, "exit status 3"},
		{"exit=143", runner.ExitError{Code: 143, Signal: "SIGTERM"}, -1, "Output:"},
		{"exit=137,fail-at=start", runner.ExitError{Code: 137, Signal: "SIGKILL"}, -1, ""},
		{"oom", runner.ExitError{Code: 137, Signal: "SIGKILL", OOMKilled: true}, -1, "Loading weights"},
		{"oom=latency", runner.ExitError{Code: 137, Signal: "SIGKILL", OOMKilled: true}, -1, "[latency] run"},
	} {
		t.Run(tt.scenario, func(t *testing.T) {
			t.Parallel()
			scenario, err := ParseScenario(tt.scenario)
			require.NoError(t, err)
			log, metrics, err := run(t, Config{Scenario: scenario}, newJob(t, "a", "8B", "performance"))
			got, ok := errors.AsType[*runner.ExitError](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, tt.want.Code, got.Code)
			require.Equal(t, tt.want.Signal, got.Signal)
			require.Equal(t, tt.want.OOMKilled, got.OOMKilled)
			require.True(t, strings.HasPrefix(err.Error(), fmt.Sprintf("Exit %d", tt.want.Code)))
			require.Nil(t, metrics)
			lines := strings.Split(strings.TrimSuffix(string(log), "\n"), "\n")
			require.Contains(t, lines[len(lines)-1], tt.last)
			if tt.lines >= 0 {
				require.Len(t, lines, tt.lines)
			}
		})
	}
}

func TestFailAtCountsWhatWasPrinted(t *testing.T) {
	t.Parallel()
	for n := range 12 {
		var out recording
		_, err := mustNew(t, Config{Scenario: Scenario{FailAt: Place(fmt.Sprint(n))}}).Run(t.Context(), newJob(t, "a", "8B", "quick"), &out)
		require.Error(t, err)
		require.Len(t, out.pieces, n+1)
	}
}

func TestScenariosThatSucceed(t *testing.T) {
	t.Parallel()
	play := func(text string) (log, metrics string) {
		scenario, err := ParseScenario(text)
		require.NoError(t, err)
		l, m, err := run(t, Config{Scenario: scenario}, newJob(t, "a", "8B", "performance"))
		require.NoError(t, err)
		return string(l), string(m)
	}

	log, metrics := play("no-metrics")
	require.Contains(t, log, "Status: PASSED")
	require.Empty(t, metrics)

	_, metrics = play("broken-metrics")
	require.NotEmpty(t, metrics)
	require.False(t, json.Valid([]byte(metrics)))

	log, metrics = play("passed-false")
	require.Contains(t, log, "Status: FAILED")
	r := decode(t, []byte(metrics))
	require.Equal(t, false, r["passed"])
	require.InDelta(t, 4, r["failed_count"], 0)
	require.InDelta(t, 0, r["passed_count"], 0)
	for _, result := range r["results"].([]any) {
		result := result.(map[string]any)
		require.Equal(t, false, result["passed"])
		require.Equal(t, map[string]any{}, result["metrics"])
		require.NotEmpty(t, result["errors"])
	}

	log, _ = play("flood=2500")
	for _, n := range []int{1, 1250, 2500} {
		require.Equal(t, 1, strings.Count(log, fmt.Sprintf("flood line %d of 2500 ", n)))
	}
	require.Equal(t, 2500, strings.Count(log, "flood line"))
	for line := range strings.Lines(log) {
		if strings.HasPrefix(line, "flood") {
			require.Len(t, line, 100)
		}
	}

	log, _ = play("long-line=123456")
	longest := 0
	for line := range strings.Lines(log) {
		longest = max(longest, len(line)-1)
	}
	require.Equal(t, 123456, longest)

	log, _ = play("invalid-utf8")
	require.False(t, utf8.ValidString(log))
	require.True(t, utf8.ValidString(strings.ToValidUTF8(log, "")))

	log, _ = play("progress")
	require.Equal(t, 4*(barSteps+1), strings.Count(log, "\r"))
	require.Contains(t, log, "\rlatency:   0%|")
	require.Contains(t, log, "\rlatency: 100%|"+strings.Repeat("█", barSteps)+"| 20/20 [00:00]\n")
}

func TestCrash(t *testing.T) {
	t.Parallel()
	scenario := Scenario{Crash: "throughput"}
	_, metrics, err := run(t, Config{Scenario: scenario}, newJob(t, "a", "8B", "quick"))
	require.ErrorIs(t, err, ErrCrash)
	require.Nil(t, metrics)

	var crashed []string
	_, metrics, err = run(t, Config{Scenario: scenario, Crash: func(job runner.Job) error {
		crashed = append(crashed, job.ID)
		return nil
	}}, newJob(t, "a", "8B", "quick"))
	require.NoError(t, err, "a hook that returns nil lets the run go on")
	require.NotNil(t, metrics)
	require.Equal(t, []string{"a"}, crashed)
}

func TestParseScenario(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		want Scenario
	}{
		{"", Scenario{}},
		{" , ,", Scenario{}},
		{"hang", Scenario{Hang: "middle"}},
		{"hang=3 slow", Scenario{Hang: "3", Slow: 10}},
		{"fail-at=latency,exit=2,progress", Scenario{FailAt: "latency", Exit: 2, Progress: true}},
		{"oom,crash=report,slow=0.5,flood,long-line", Scenario{OOM: "model", Crash: "report", Slow: 0.5, Flood: 10000, LongLine: 200000}},
		{"invalid-utf8 no-metrics passed-false", Scenario{InvalidUTF8: true, NoMetrics: true, PassedFalse: true}},
		{"broken-metrics", Scenario{BrokenMetrics: true}},
	} {
		got, err := ParseScenario(tt.text)
		require.NoError(t, err)
		require.Equal(t, tt.want, got)

		text, err := got.MarshalText()
		require.NoError(t, err)
		var again Scenario
		require.NoError(t, again.UnmarshalText(text))
		require.Equal(t, got, again, "%s", text)
	}
	for _, tt := range []struct{ text, want string }{
		{"explode", "unknown word \"explode\": want some of fail-at, hang"},
		{"fail-at", "needs a value"},
		{"fail-at=", "not empty"},
		{"fail-at=nowhere", "is no place"},
		{"fail-at=-1", "is no place"},
		{"exit=0", "from 1 to 255"},
		{"exit=256", "from 1 to 255"},
		{"exit=+2", "from 1 to 255"},
		{"slow=0", "zero"},
		{"slow=NaN", "slow is NaN"},
		{"slow=1e9", "0.001 to 1000"},
		{"flood=100000001", "from 1 to 100000000"},
		{"progress=yes", "stands alone"},
		{"hang,hang=2", "twice"},
		{"no-metrics,broken-metrics", "exclude"},
	} {
		_, err := ParseScenario(tt.text)
		require.ErrorContains(t, err, tt.want)
	}
}

func FuzzParseScenario(f *testing.F) {
	f.Add("fail-at=latency,exit=2,progress")
	f.Add("hang=3 slow=0.5\tflood=7")
	f.Add("oom,crash,long-line,invalid-utf8,no-metrics,passed-false")
	f.Add("slow=1e-3,fail-at=007")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseScenario(text)
		if err != nil {
			return
		}
		if _, err := New(Config{Scenario: s}); err != nil {
			t.Fatalf("%q parsed, and New says %v", text, err)
		}
		again, err := ParseScenario(s.String())
		if err != nil || again != s {
			t.Fatalf("%q became %q: %+v, %v", text, s, again, err)
		}
	})
}
