package preflight

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var update = flag.Bool("update", false, "rewrite the files in testdata")

// fixed returns a check with the given result and duration.
func fixed(name string, must bool, after time.Duration, r Result) Check {
	return Func{Label: name, Must: must, Do: func(ctx context.Context) Result {
		select {
		case <-time.After(after):
			return r
		case <-ctx.Done():
			return Result{Status: Fail, Details: "cancelled"}
		}
	}}
}

func TestChecksRunConcurrently(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var order []string
		start := time.Now()
		results := Run(t.Context(), []Check{
			fixed("slow", true, 3*time.Second, Result{Status: OK}),
			fixed("quick", false, time.Second, Result{Status: Warn}),
			fixed("middle", true, 2*time.Second, Result{Status: Fail, Details: "no"}),
		}, func(r Result) { order = append(order, r.Name) })

		require.Equal(t, 3*time.Second, time.Since(start))
		require.Equal(t, []string{"quick", "middle", "slow"}, order)
		require.Equal(t, []Result{
			{Name: "slow", Required: true, Status: OK, Took: 3 * time.Second},
			{Name: "quick", Status: Warn, Took: time.Second},
			{Name: "middle", Required: true, Status: Fail, Details: "no", Took: 2 * time.Second},
		}, results)
	})
}

func TestEachCheckHasItsLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hanging := make(chan struct{})
		start := time.Now()
		results := Run(t.Context(), []Check{
			fixed("default limit", true, time.Hour, Result{Status: OK}),
			Func{Label: "hanging", Time: 2 * time.Second, Do: func(context.Context) Result { <-hanging; return Result{} }},
			Func{Label: "broken", Do: func(context.Context) Result { panic("oh") }},
			Func{Label: "silent", Must: true, Do: func(context.Context) Result { return Result{Details: "fine"} }},
		}, nil)
		require.Equal(t, DefaultLimit, time.Since(start))
		require.Equal(t, "cancelled", results[0].Details)
		require.Equal(t, Result{Name: "hanging", Status: Fail, Details: "no answer within 2s", Took: 2500 * time.Millisecond}, results[1])
		require.Equal(t, "the check panicked: oh", results[2].Details)
		require.Equal(t, Result{Name: "silent", Required: true, Status: Fail, Details: "the check returned no status"}, results[3])
		close(hanging)
	})
}

func TestExitStatus(t *testing.T) {
	t.Parallel()
	require.Zero(t, ExitStatus(nil))
	require.Zero(t, ExitStatus([]Result{{Required: true, Status: OK}, {Required: true, Status: Skip}, {Status: Fail}, {Required: true, Status: Warn}}))
	require.Equal(t, 1, ExitStatus([]Result{{Required: true, Status: OK}, {Required: true, Status: Fail}}))
}

func TestWriteJSON(t *testing.T) {
	t.Parallel()
	results := []Result{
		{Name: "docker", Required: true, Status: OK, Details: "engine 28.2.2, API 1.50", Took: 12 * time.Millisecond},
		{Name: "docker gpu access", Required: true, Status: Fail, Details: "the toolkit\nis not\x1b[31m set up", Fix: "nvidia-ctk <now>"},
		{Name: "nfs utilities", Status: Warn, Details: "mount.nfs is not installed", Fix: "sudo apt-get install nfs-common"},
		{Name: "größe", Status: OK, Details: "fine", Fix: "not shown"},
	}
	var text bytes.Buffer
	require.NoError(t, WriteJSON(&text, results))
	golden(t, "results.json", text.Bytes())

	var doc struct {
		Ready  bool
		Checks []Result
	}
	require.NoError(t, json.Unmarshal(text.Bytes(), &doc))
	require.False(t, doc.Ready)
	require.Equal(t, results, doc.Checks)

	text.Reset()
	require.NoError(t, WriteJSON(&text, nil))
	require.Equal(t, "{\n  \"ready\": true,\n  \"checks\": []\n}\n", text.String())
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, got, 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
}
