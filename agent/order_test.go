package agent

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/heartbeat"
)

// accepting returns an agent with a store that takes commands and runs none.
func accepting(t testing.TB) *Agent {
	t.Helper()
	a, err := New(Config{Name: "x", Dir: t.TempDir(), Server: silent{}, Runner: noRunner{}})
	require.NoError(t, err)
	a.store, err = openStore(filepath.Join(a.cfg.Dir, "jobs"))
	require.NoError(t, err)
	a.accepting = true
	return a
}

// silent is a server that is never there.
type silent struct{}

func (silent) Register(context.Context, Registration) (Registered, error) {
	return Registered{}, errors.New("away")
}

func (silent) Heartbeat(context.Context, string, heartbeat.Beat) (heartbeat.Answer, error) {
	return heartbeat.Answer{}, errors.New("away")
}

// orderOfV1 is command.json as the first agents read it. They refused more than
// 4 MiB, and a command with another id than its directory's.
type orderOfV1 struct {
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
	jobs, ignored, err := a.store.load()
	require.NoError(t, err)
	require.Empty(t, ignored)
	require.Len(t, jobs, len(a.jobs))
	for _, got := range jobs {
		require.NoError(t, got.damage)
		want := a.jobs[got.id]
		require.Equal(t, want.state(), got.state())
		require.Equal(t, want.testID(), got.testID())
		require.Equal(t, want.snapshot().Outcome, got.snapshot().Outcome)
		spec, fault := parseCommand(got.order.Command, false)
		if got.state() == StateAccepted {
			require.NoError(t, fault)
			require.Equal(t, want.spec, spec)
		} else {
			require.Equal(t, StateFailed, got.state())
			require.True(t, emptyPayload(got.order.Command.Payload), "nothing of it may run")
		}

		text, err := os.ReadFile(got.path(orderFile))
		require.NoError(t, err)
		require.Less(t, len(text), 64<<10)
		var old orderOfV1
		require.NoError(t, json.Unmarshal(text, &old))
		safe, _ := safeID(old.Command.ID)
		require.Equal(t, got.id, safe)
		spec, _ = parseCommand(heartbeat.Command(old.Command), false)
		if got.state() == StateAccepted {
			require.Equal(t, want.spec, spec)
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
			a.receive(t.Context(), cmd, sourceServer)
			require.Len(t, a.jobs, 1)
			requireLoads(t, a)
		})
	}
}

func TestADeepPayloadIsRefused(t *testing.T) {
	t.Parallel()
	a := accepting(t)
	deep := heartbeat.Command{ID: "c", Type: TypeRunTest, Payload: []byte(`{"model_path":"m","x":` + nested(maxNesting) + `}`)}
	_, err := a.Submit(deep)
	require.ErrorContains(t, err, "nested more than 32 levels deep")
	require.Empty(t, a.jobs)
	_, _, err = readCommand([]byte(`{"type":"run_test","x":` + nested(maxNesting) + `}`))
	require.ErrorContains(t, err, "nested more than 32 levels deep")

	brackets := strings.Repeat(`[\"`, maxNesting+1)
	_, err = a.Submit(heartbeat.Command{ID: "c", Type: TypeRunTest, Payload: []byte(`{"model_path":"` + brackets + `"}`)})
	require.NoError(t, err, "brackets in a text nest nothing")
}

// TestTheFormatOfOlderAgentsIsRead reads what an agent wrote that kept the whole
// payload, indented.
func TestTheFormatOfOlderAgentsIsRead(t *testing.T) {
	t.Parallel()
	a := accepting(t)
	j, err := a.store.create("c", testOrder("c"), newRecord(testOrder("c")))
	require.NoError(t, err)
	text, err := os.ReadFile("testdata/command-v1.json")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(j.path(orderFile), text, 0o600))
	jobs, ignored, err := a.store.load()
	require.NoError(t, err)
	require.Empty(t, ignored)
	require.NoError(t, jobs[0].damage)
	require.Equal(t, "t", jobs[0].testID())
	s, err := parseCommand(jobs[0].order.Command, false)
	require.NoError(t, err, "this deep it was accepted")
	require.Equal(t, spec{Type: TypeRunTest, Model: "/models/<a>", Engine: "vllm", Suite: "quick", Mode: "docker", Benchmark: "throughput"}, s)
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
			_, _ = a.Submit(cmd)
		} else {
			a.receive(t.Context(), cmd, sourceServer)
		}
		requireLoads(t, a)
		for id, j := range a.jobs {
			a.queue.remove(j)
			delete(a.jobs, id)
			require.NoError(t, os.RemoveAll(j.dir))
		}
	})
}
