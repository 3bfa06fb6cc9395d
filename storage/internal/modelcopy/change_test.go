package modelcopy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/storage/internal/iofault"
)

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
			require.NoError(t, err, "one change is tolerated")
			require.Contains(t, strings.Join(notes, "\n"), "once more")

			share = t.TempDir()
			_, _, err = copyWhile(t, share, func(attempt int) { require.NoError(t, tt.change(share, attempt)) })
			require.Equal(t, iofault.Changed, iofault.ClassOf(err), err)
		})
	}
}

func TestDamagedStageIsCopiedAgain(t *testing.T) {
	t.Parallel()
	share := t.TempDir()
	stage, _, err := copyWhile(t, share, func(int) {})
	require.NoError(t, err)
	// A later run on the same stage hashes each piece before it keeps it.
	name := filepath.Join(stage, "data/a")
	require.NoError(t, os.WriteFile(name, make([]byte, 3<<20), 0o644))
	c := rerun(t, share, stage)
	require.Equal(t, int64(3<<20), c.Counters.bytesRead.Load(), "complete pieces are not read again")
	got, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Equal(t, strings.Repeat("w", 3<<20), string(got))
}

// TestSpaceOfPreallocatedFiles checks how much space a running copy still needs
// according to its counters: not that of a file whose space is preallocated.
func TestSpaceOfPreallocatedFiles(t *testing.T) {
	t.Parallel()
	share := t.TempDir()
	stage, _, err := copyWhile(t, share, func(int) {})
	require.NoError(t, err)
	const whole = 3<<20 + 10
	require.NoError(t, os.Truncate(filepath.Join(stage, "data/b"), 0))
	require.EqualValues(t, whole, rerun(t, share, stage).Counters.allocated.Load())
	require.NoError(t, os.RemoveAll(stage))
	c := rerun(t, share, stage)
	require.EqualValues(t, whole, c.Counters.allocated.Load())
	for _, f := range c.files {
		require.Equal(t, f.large(), f.allocated, f.path)
	}
}
