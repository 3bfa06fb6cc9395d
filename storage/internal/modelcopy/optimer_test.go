package modelcopy

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOpTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var timer OpTimer
		_, _, _, running := timer.Current()
		require.False(t, running)
		path, began := "weights", time.Now()
		timer.Begin(&opRead, &path)
		time.Sleep(time.Second) // in synctest's time
		op, at, since, running := timer.Current()
		require.True(t, running)
		require.Equal(t, []any{"read", "weights"}, []any{op, at})
		require.True(t, since.Equal(began))
		timer.End()
		_, _, _, running = timer.Current()
		require.False(t, running)
	})
}

// TestCopyThatIsWatched reads all timers during a copy, for the race detector.
func TestCopyThatIsWatched(t *testing.T) {
	t.Parallel()
	share := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(share, "m"), 0o755))
	for i := range 200 {
		require.NoError(t, os.WriteFile(filepath.Join(share, "m", fmt.Sprint(i)), []byte("w"), 0o644))
	}
	timers := []*OpTimer{new(OpTimer), new(OpTimer), new(OpTimer), new(OpTimer)}
	var ended atomic.Bool
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for !ended.Load() {
			for _, timer := range timers {
				if op, path, _, running := timer.Current(); running && (op == "" || path == "") {
					t.Error("an operation without a name")
				}
			}
		}
	})
	_, err := Copy(t.Context(), Options{
		Share: share, Model: "m", Stage: filepath.Join(t.TempDir(), "stage"), Counters: new(Counters),
		Note: func(string) {}, Reserve: func(_, _ int64) error { return nil },
	}, timers)
	ended.Store(true)
	watcher.Wait()
	require.NoError(t, err)
}
