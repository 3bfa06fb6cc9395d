package supervisor_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// TestAGapThatNothingTells has output of which a part was freed, and no file that says
// so. Zeros that a benchmark printed are no gap.
func TestAGapThatNothingTells(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "output")
	const size = 1 << 20
	text := append(bytes.Repeat([]byte("x"), size), make([]byte, size)...)
	text = append(text, "\nlast\n"...)
	require.NoError(t, os.WriteFile(path, text, 0o600))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE|unix.FALLOC_FL_PUNCH_HOLE, 0, size); err != nil {
		t.Skipf("SKIPPED because this file system makes no holes: %v", err)
	}
	require.NoError(t, f.Close())
	var out runnertest.Recorder
	require.NoError(t, follow(t, dir, 0, &out).Pump(t.Context(), time.Time{}))
	require.Equal(t, "1048576 bytes of the output are missing here: they were removed to save disk space before they were read\n", out.Messages())
	require.Equal(t, string(text[size:]), out.Text())
}

// TestRemovedOutput has a benchmark whose output somebody removed before it was read.
func TestRemovedOutput(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, program(t, dir, "--", "sh", "-c", "echo one; echo two").Run())
	require.NoError(t, os.Remove(filepath.Join(dir, "output")))
	var out runnertest.Recorder
	require.NoError(t, follow(t, dir, 4, &out).Pump(t.Context(), time.Time{}))
	require.Contains(t, out.Messages(), "what the benchmark printed from byte 4 on is missing")

	var none runnertest.Recorder
	require.NoError(t, follow(t, t.TempDir(), 0, &none).Pump(t.Context(), time.Time{}))
	require.Empty(t, none.Messages(), "nothing was begun")
}
