package storage

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// copyWhile copies a model of two files with the engine alone and calls meddle
// each time between its first look at the source and its first byte.
func copyWhile(t *testing.T, share string, meddle func(attempt int)) (stage string, notes []string, err error) {
	t.Helper()
	for name, size := range map[string]int{"m/a": 3 << 20, "m/b": 10} {
		at := filepath.Join(share, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(at), 0o755))
		require.NoError(t, os.WriteFile(at, []byte(strings.Repeat("w", size)), 0o644))
	}
	stage = filepath.Join(t.TempDir(), "stage")
	attempt := 0
	c := &copying{
		mount: share, rel: "m", stage: stage, count: new(counters),
		note:    func(text string) { notes = append(notes, text) },
		reserve: func(_, _ int64) error { attempt++; meddle(attempt); return nil },
	}
	err = newGates(time.Minute).run(t.Context(), share, 4, func(ctx context.Context, pulses []*pulse) error { return c.run(ctx, pulses) })
	return stage, notes, err
}

func TestSourceThatChangesMeanwhile(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(share string, attempt int) error
	}{
		{"written to", func(share string, attempt int) error {
			when := time.Unix(int64(1_000_000_000+attempt), 0)
			return os.Chtimes(filepath.Join(share, "m/a"), when, when)
		}},
		{"cut off", func(share string, attempt int) error {
			return os.Truncate(filepath.Join(share, "m/a"), int64(1<<20-attempt))
		}},
		{"a file more", func(share string, attempt int) error {
			return os.WriteFile(filepath.Join(share, "m", strings.Repeat("n", attempt)), nil, 0o644)
		}},
		{"a file less", func(share string, attempt int) error {
			return os.Remove(filepath.Join(share, []string{"m/a", "m/b"}[attempt-1]))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			share := t.TempDir()
			_, notes, err := copyWhile(t, share, func(attempt int) {
				if attempt == 1 {
					require.NoError(t, tt.change(share, attempt))
				}
			})
			require.NoError(t, err, "once is overcome")
			require.Contains(t, strings.Join(notes, "\n"), "once more")

			share = t.TempDir()
			_, _, err = copyWhile(t, share, func(attempt int) { require.NoError(t, tt.change(share, attempt)) })
			require.Equal(t, ClassChanged, classOf(err), err)
		})
	}
}

func TestDamagedStageIsCopiedAnew(t *testing.T) {
	t.Parallel()
	share := t.TempDir()
	stage, _, err := copyWhile(t, share, func(int) {})
	require.NoError(t, err)
	// A later run on the same stage believes no piece without a look.
	name := filepath.Join(stage, "data/a")
	require.NoError(t, os.WriteFile(name, make([]byte, 3<<20), 0o644))
	c := rerun(t, share, stage)
	require.Equal(t, int64(3<<20), c.count.bytesRead.Load(), "what was whole was not read again")
	got, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Equal(t, strings.Repeat("w", 3<<20), string(got))
}

// rerun copies the model of copyWhile into its stage once more.
func rerun(t *testing.T, share, stage string) *copying {
	t.Helper()
	c := &copying{mount: share, rel: "m", stage: stage, count: new(counters), note: func(string) {}, reserve: func(_, _ int64) error { return nil }}
	require.NoError(t, newGates(time.Minute).run(t.Context(), share, 4, func(ctx context.Context, pulses []*pulse) error { return c.run(ctx, pulses) }))
	return c
}
