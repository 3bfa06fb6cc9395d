package hwdetect

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// nvidia-smi on PATH is run, within time and size limits.
func TestRunNVIDIASMI(t *testing.T) {
	dir := t.TempDir()
	program := func(script string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "nvidia-smi"), []byte("#!/bin/sh\n"+script), 0o755))
	}
	t.Setenv("PATH", dir+":/bin:/usr/bin")

	program(`echo "$@"`)
	out, err := runNVIDIASMI(t.Context(), "-L", "x y")
	require.NoError(t, err)
	require.Equal(t, "-L x y\n", string(out))

	program("echo warning\necho 'Unable to determine the device handle for GPU0: Unknown Error'\nexit 15")
	_, err = smi{runNVIDIASMI}.output(t.Context(), "-L")
	require.EqualError(t, err, "Unable to determine the device handle for GPU0: Unknown Error")

	program("exit 3")
	_, err = smi{runNVIDIASMI}.output(t.Context(), "-L")
	require.EqualError(t, err, "exit status 3")

	program("while :; do echo nonsense nonsense nonsense nonsense nonsense nonsense; done")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	out, err = smi{runNVIDIASMI}.output(ctx, "-L")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "nvidia-smi hangs")
	require.Less(t, time.Since(start), 3*time.Second)
	require.LessOrEqual(t, len(out), maxSMIOutput)

	// Its child keeps the output open and keeps running.
	program("sleep 2 &\nexit 0")
	start = time.Now()
	_, _ = runNVIDIASMI(t.Context(), "-L")
	require.Less(t, time.Since(start), 1500*time.Millisecond)

	t.Setenv("PATH", t.TempDir())
	_, err = runNVIDIASMI(t.Context(), "-L")
	require.ErrorIs(t, err, ErrAbsent)
}

func TestLimitedBuffer(t *testing.T) {
	t.Parallel()
	b := limitedBuffer{left: 5}
	for range 3 {
		n, err := b.Write([]byte("abc"))
		require.NoError(t, err)
		require.Equal(t, 3, n)
	}
	require.Equal(t, "abcab", string(b.kept))
}

func TestSMIPlaceholders(t *testing.T) {
	t.Parallel()
	for text, unified := range map[string]bool{
		"[N/A]": true, "N/A": true, "[Not Supported]": true,
		"[Unknown Error]": false, "[GPU is lost]": false, "[Insufficient Permissions]": false, "ERR!": false, "": false, "0": false,
	} {
		g := GPU{Model: "NVIDIA GB10"}
		g.smiMemory(text)
		require.Equal(t, unified, g.Unified, text)
		require.Zero(t, g.MemoryBytes)
	}
	g := GPU{Model: "NVIDIA GB10", MIG: &MIG{Enabled: true}}
	g.smiMemory("[N/A]")
	require.False(t, g.Unified, "a MIG slice")
}
