package agent_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/runner"
)

// measures is a run with a result.
func measures(_ context.Context, job runner.Job, _ runner.Output) (runner.Result, error) {
	return runner.Result{Runner: "play"}, os.WriteFile(filepath.Join(job.ResultsDir, "metrics.json"), []byte(`{"tps": 3}`), 0o600)
}

// nothing is a run without a result.
func nothing(context.Context, runner.Job, runner.Output) (runner.Result, error) {
	return runner.Result{Runner: "play"}, nil
}

// Remarks end the log. One that fails, panics or hangs delays the job by two seconds and
// no more, and is not called again before it returned.
func TestRemarks(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		remarks func(ctx context.Context, dir string, hang chan struct{}) ([]string, error)
		run     func(context.Context, runner.Job, runner.Output) (runner.Result, error)
		want    []string
		calls   int
	}{
		"said": {remarks: func(_ context.Context, dir string, _ chan struct{}) ([]string, error) {
			_, err := os.Stat(filepath.Join(dir, "result.json"))
			return []string{"as before\x1b[2J", "and\nmore"}, err
		}, want: []string{"as before [2J", "and more", "Benchmark completed"}, calls: 2},
		"error": {remarks: func(context.Context, string, chan struct{}) ([]string, error) { return nil, errors.New("no") }, want: []string{"Benchmark completed"}, calls: 2},
		"panic": {remarks: func(context.Context, string, chan struct{}) ([]string, error) { panic("no") }, want: []string{"Benchmark completed"}, calls: 2},
		"slow": {remarks: func(ctx context.Context, _ string, _ chan struct{}) ([]string, error) {
			<-ctx.Done()
			return []string{"late"}, nil
		}, want: []string{"Benchmark completed"}, calls: 2},
		"hang":   {remarks: func(_ context.Context, _ string, hang chan struct{}) ([]string, error) { <-hang; return nil, nil }, want: []string{"Benchmark completed"}, calls: 1},
		"no run": {remarks: func(context.Context, string, chan struct{}) ([]string, error) { return []string{"x"}, nil }, run: nothing, want: []string{"Benchmark completed"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				srv, hang := &agenttest.Server{}, make(chan struct{})
				var calls atomic.Int32
				run := tt.run
				if run == nil {
					run = measures
				}
				_, stop := start(t, agent.Config{Server: srv, Runner: &play{run: run}, Remarks: func(ctx context.Context, dir string) ([]string, error) {
					calls.Add(1)
					return tt.remarks(ctx, dir, hang)
				}})
				for range 2 {
					id := srv.Launch("m")
					begun := time.Now()
					require.NoError(t, srv.Wait(within(t, time.Hour), id, "completed"))
					require.LessOrEqual(t, time.Since(begun), time.Minute)
					lines := srv.Lines(id)
					require.Equal(t, tt.want, lines[len(lines)-len(tt.want):])
				}
				require.EqualValues(t, tt.calls, calls.Load())
				close(hang)
				stop()
			})
		})
	}
}
