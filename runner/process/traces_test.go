package process

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner"
)

// TestKillWithoutAGroup finds processes by their environment alone. It says that all
// have ended only if that is so.
func TestKillWithoutAGroup(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"daemon": `(setsid sh -c 'while true; do echo x >> OUT/beat; sleep 0.02; done' &)`,
		"chain":  "echo x >> OUT/beat\nsetsid \"$0\" &",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path, beat := filepath.Join(dir, "kitt"), filepath.Join(dir, "beat")
			require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+strings.ReplaceAll(script, "OUT", dir)+"\n"), 0o700))
			cmd := exec.Command(path)
			cmd.Env = append(os.Environ(), markOf(dir))
			require.NoError(t, cmd.Run())
			size := func() int64 {
				info, err := os.Stat(beat)
				if err != nil {
					return 0
				}
				return info.Size()
			}
			require.Eventually(t, func() bool { return size() > 20 }, time.Minute, time.Millisecond)
			tr := traces{dir: dir}
			err := tr.kill(2 * time.Second)
			if err != nil {
				require.ErrorIs(t, err, runner.ErrStillRunning)
				require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"), 0o700)) // which ends the chain
			}
			require.Eventually(t, func() bool { return tr.kill(time.Second) == nil }, time.Minute, time.Millisecond)
			before := size()
			require.Never(t, func() bool { return size() != before }, 300*time.Millisecond, 50*time.Millisecond)
		})
	}
}

// TestLostSaysWhatMayRun has a run whose group can't be looked at.
func TestLostSaysWhatMayRun(t *testing.T) {
	t.Parallel()
	require.ErrorIs(t, lost("gone", nil), runner.ErrLost)
	require.False(t, errors.Is(lost("gone", &traces{dir: t.TempDir()}), runner.ErrStillRunning))
}
