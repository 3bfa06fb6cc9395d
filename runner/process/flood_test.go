package process_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/process"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// slowOutput takes long for each piece, so that a benchmark that floods it is
// always ahead.
type slowOutput struct {
	runnertest.Recorder
	pieces, bytes atomic.Int64
	piece         func()
}

func (o *slowOutput) WriteOutput(p []byte, _ time.Time, _ runner.Position) error {
	<-time.After(50 * time.Millisecond)
	o.pieces.Add(1)
	o.bytes.Add(int64(len(p)))
	o.piece()
	return nil
}

// TestCancelWhileFlooded stops a benchmark that prints without end, and faster
// than its output is taken.
func TestCancelWhileFlooded(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, r *process.Runner) {
		cause := errors.New("stopped by a test")
		job := newJob(t, "fake:lines=2000000000,width=100,ignore-term")
		job.StopGrace = 300 * time.Millisecond
		ctx, cancel := context.WithCancelCause(t.Context())
		out := &slowOutput{piece: func() { cancel(cause) }}
		begin := time.Now()
		_, err := r.Run(ctx, job, out)
		require.ErrorIs(t, err, cause)
		require.Less(t, time.Since(begin), job.StopGrace+3*time.Second)
		printed, err := os.Stat(filepath.Join(job.Dir, "process", "output"))
		require.NoError(t, err)
		if missing := printed.Size() - out.bytes.Load(); missing > 0 {
			require.Contains(t, out.Messages(), fmt.Sprintf("the last %d bytes that the benchmark printed are left out", missing))
		}
	})
}

// TestLetGoWhileFlooded leaves such a benchmark alone, and ends it afterwards.
func TestLetGoWhileFlooded(t *testing.T) {
	t.Parallel()
	r, job := supervised(t), newJob(t, "fake:lines=2000000000,width=100")
	ctx, letGo := context.WithCancelCause(t.Context())
	out := &slowOutput{piece: func() { letGo(runner.ErrDetach) }}
	_, letGoErr := r.Run(ctx, job, out)

	// Nothing is required before the flood has an end.
	stopped, stop := context.WithCancelCause(t.Context())
	enough := errors.New("stopped by a test")
	_, err := r.Resume(stopped, job, runner.Position(100), &slowOutput{piece: func() { stop(enough) }})
	require.ErrorIs(t, err, enough)
	require.ErrorIs(t, letGoErr, runner.ErrDetach)
	require.EqualValues(t, 1, out.pieces.Load())
}

// TestTruncated has somebody empty the output's file under a running benchmark.
func TestTruncated(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, r *process.Runner) {
		job := newJob(t, "fake:lines=300,delay=2ms")
		var out runnertest.Recorder
		var once atomic.Bool
		out.OnOutput(func() {
			if strings.Contains(out.Text(), "line 100\n") && once.CompareAndSwap(false, true) {
				require.NoError(t, os.Truncate(filepath.Join(job.Dir, "process", "output"), 0))
			}
		})
		_, err := r.Run(t.Context(), job, &out)
		require.NoError(t, err)
		require.Contains(t, out.Messages(), "became shorter")
		require.True(t, strings.HasPrefix(out.Text(), lines(0, 101)))
		require.True(t, strings.HasSuffix(out.Text(), lines(290, 300)), "what came after it is there")
		require.Equal(t, 1, strings.Count(out.Text(), fmt.Sprintf("line %d\n", 299)))
	})
}
