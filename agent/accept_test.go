package agent

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/heartbeat"
)

// accepting returns an agent with a store that takes commands and runs none.
func accepting(t testing.TB) *Agent {
	t.Helper()
	a, err := New(Config{Name: "x", Dir: t.TempDir(), Server: deaf{}, Runner: noRunner{}})
	require.NoError(t, err)
	store, err := jobs.Open(filepath.Join(a.cfg.Dir, "jobs"), nil)
	require.NoError(t, err)
	a.registry.open(store)
	a.registry.setAccepting(true)
	return a
}

// commandV1 is command.json as the first agents read it. They refused more than
// 4 MiB, and a command with another id than its directory's.
type commandV1 struct {
	Version int `json:"version"`
	Command struct {
		ID      string          `json:"command_id"`
		TestID  string          `json:"test_id"`
		Type    string          `json:"type"`
		Payload json.RawMessage `json:"payload"`
	} `json:"command"`
	Source     string    `json:"source"`
	AcceptedAt time.Time `json:"accepted_at"`
}

// requireLoads reads a's jobs as the next start does, and as an agent of version
// 1 would, and checks that each is what was accepted.
func requireLoads(t *testing.T, a *Agent) {
	t.Helper()
	loaded, ignored, err := a.registry.store.Load()
	require.NoError(t, err)
	require.Empty(t, ignored)
	require.Len(t, loaded, len(a.registry.jobs))
	for _, got := range loaded {
		require.NoError(t, got.Damage)
		want := a.registry.jobs[got.ID]
		require.Equal(t, want.State(), got.State())
		require.Equal(t, want.TestID(), got.TestID())
		require.Equal(t, want.Record().Outcome, got.Record().Outcome)
		c, fault := checkCommand(got.Command, false)
		if got.State() == StateAccepted {
			require.NoError(t, fault)
			require.Equal(t, want.Command, c)
		} else {
			require.Equal(t, StateFailed, got.State())
			require.Empty(t, got.Command.Spec, "nothing of it may run")
		}

		text, err := os.ReadFile(got.Path("command.json"))
		require.NoError(t, err)
		require.Less(t, len(text), 64<<10)
		var old commandV1
		require.NoError(t, json.Unmarshal(text, &old))
		safe, _ := jobs.SafeID(old.Command.ID)
		require.Equal(t, got.ID, safe)
		c, _ = parseCommand(heartbeat.Command(old.Command), false)
		if got.State() == StateAccepted {
			require.Equal(t, want.Command, c)
		}
	}
}

// nested returns JSON with so many levels of lists.
func nested(levels int) string { return strings.Repeat("[", levels) + strings.Repeat("]", levels) }

func TestWhateverIsAcceptedCanBeLoaded(t *testing.T) {
	t.Parallel()
	for name, cmd := range map[string]heartbeat.Command{
		"20 KB of lists":        {Payload: []byte(`{"model_path":"m","x":` + nested(9_990) + `}`)},
		"1 MB of less-than":     {Payload: []byte(`{"model_path":"m","profile_id":"` + strings.Repeat("<", 1_000_000) + `"}`)},
		"1 MB of a benchmark":   {Payload: []byte(`{"model_path":"m","benchmark_name":"` + strings.Repeat("<", 1_000_000) + `"}`)},
		"1 MB of an engine":     {Payload: []byte(`{"model_path":"m","engine_name":"` + strings.Repeat("<", 1_000_000) + `"}`)},
		"a cleanup's engine":    {Type: TypeCleanupStorage, Payload: []byte(`{"model_path":"m","engine_name":"` + strings.Repeat("<", 1_000_000) + `"}`)},
		"the longest path":      {Payload: []byte(`{"model_path":"` + strings.Repeat("<", maxModelPath) + `"}`)},
		"lines of another kind": {Payload: []byte(`{"model_path":"` + strings.Repeat("\u2028", maxModelPath/3) + `"}`)},
		"more than 1 MiB":       {Payload: []byte(`{"model_path":"` + strings.Repeat("m", maxPayload) + `"}`)},
		"a long id":             {ID: strings.Repeat("<", 3<<20), Payload: []byte(`{"model_path":"m"}`)},
		"a long test's id":      {TestID: strings.Repeat("<", 3<<20), Payload: []byte(`{"model_path":"m"}`)},
		"a long type":           {Type: strings.Repeat("<", 3<<20)},
		"an engine's command":   {Type: TypeStartEngine, Payload: []byte(`{"runtime_config":` + nested(9_990) + `}`)},
		"a cleanup of no text":  {Type: TypeCleanupStorage, Payload: []byte(`{"model_path":5}`)},
		"a cleanup of no JSON":  {Type: TypeCleanupStorage, Payload: []byte(`{"model`)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := accepting(t)
			if cmd.ID == "" {
				cmd.ID = "c"
			}
			if cmd.Type == "" {
				cmd.Type = TypeRunTest
			}
			a.intake.receive(t.Context(), cmd, jobs.FromServer)
			require.Len(t, a.registry.jobs, 1)
			requireLoads(t, a)
		})
	}
}

func TestADeepPayloadIsRefused(t *testing.T) {
	t.Parallel()
	a := accepting(t)
	deep := heartbeat.Command{ID: "c", Type: TypeRunTest, Payload: []byte(`{"model_path":"m","x":` + nested(maxNesting) + `}`)}
	_, err := a.intake.submitJSON(deep)
	require.ErrorContains(t, err, "nested more than 32 levels deep")
	require.Empty(t, a.registry.jobs)
	_, _, err = readCommand([]byte(`{"type":"run_test","x":` + nested(maxNesting) + `}`))
	require.ErrorContains(t, err, "nested more than 32 levels deep")

	brackets := strings.Repeat(`[\"`, maxNesting+1)
	_, err = a.intake.submitJSON(heartbeat.Command{ID: "c", Type: TypeRunTest, Payload: []byte(`{"model_path":"` + brackets + `"}`)})
	require.NoError(t, err, "brackets in a text nest nothing")
}

// TestTheFormatOfOlderAgentsIsRead reads what an agent wrote that kept the whole
// payload, indented.
func TestTheFormatOfOlderAgentsIsRead(t *testing.T) {
	t.Parallel()
	a := accepting(t)
	j, err := a.registry.create(jobs.Command{ID: "c", TestID: "t", Type: TypeRunTest}, jobs.FromServer, nil)
	require.NoError(t, err)
	text, err := os.ReadFile("testdata/command-v1.json")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(j.Path("command.json"), text, 0o600))
	loaded, ignored, err := a.registry.store.Load()
	require.NoError(t, err)
	require.Empty(t, ignored)
	require.NoError(t, loaded[0].Damage)
	require.Equal(t, "t", loaded[0].TestID())
	require.Equal(t, TypeRunTest, loaded[0].Command.Type, "this deep it was accepted")
	require.Equal(t, jobs.Spec{Model: "/models/<a>", Engine: "vllm", Suite: "quick", Mode: "docker", Benchmark: "throughput"}, loaded[0].Command.Spec)
}

// FuzzAcceptThenLoad has an agent accept any command, and the next one read it.
func FuzzAcceptThenLoad(f *testing.F) {
	f.Add("c", "t", TypeRunTest, []byte(`{"model_path":"/models/a","engine_name":"vllm","runtime_config":{"port":8090}}`), false)
	f.Add("a/b", "", TypeCleanupStorage, []byte(`{"model_path":"__cleanup__"}`), false)
	f.Add("c", "../t", "reboot", []byte(`{"model_path":"\ud800\u2028<&>","benchmark_name":"\u001b[1m"}`), true)
	f.Add("", "t\n", TypeRunTest, []byte(`null`), false)
	f.Add("c", "t", TypeRunTest, []byte(`{"MODEL_PATH":"m","model_path":"n","x":[[[[]]]]}`), true)
	a := accepting(f)
	f.Fuzz(func(t *testing.T, id, testID, kind string, payload []byte, operator bool) {
		cmd := heartbeat.Command{ID: id, TestID: testID, Type: kind, Payload: payload}
		if operator {
			_, _ = a.intake.submitJSON(cmd)
		} else {
			a.intake.receive(t.Context(), cmd, jobs.FromServer)
		}
		requireLoads(t, a)
		for id, j := range a.registry.jobs {
			a.queue.Remove(j)
			delete(a.registry.jobs, id)
			require.NoError(t, os.RemoveAll(j.Dir))
		}
	})
}
