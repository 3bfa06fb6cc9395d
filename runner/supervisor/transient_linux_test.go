package supervisor

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/runner"
)

// TestAnErrorOfTheMachineIsNotTheEnd has nothing be known of a run for a while: it is
// followed to its end all the same, and its log says what was waited for.
func TestAnErrorOfTheMachineIsNotTheEnd(t *testing.T) {
	for _, cause := range []unix.Errno{unix.EMFILE, unix.EIO, unix.ESTALE, unix.ENOMEM, unix.EROFS, unix.EDQUOT} {
		synctest.Test(t, func(t *testing.T) {
			path := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(path, OutputFile), []byte("a line\n"), 0o600))
			dir, err := OpenDir(path)
			require.NoError(t, err)
			defer dir.Close()
			failures := 3
			var out bytes.Buffer
			f := NewFollower(dir, runner.NewOutput(&out), 0, func() (bool, error) {
				if failures--; failures >= 0 {
					return true, cause
				}
				return true, nil
			})
			defer f.Close()
			require.NoError(t, f.Pump(t.Context(), time.Time{}))
			require.Contains(t, out.String(), "waiting for the files of the run: "+cause.Error())
			require.Contains(t, out.String(), "\na line\n")
		})
	}
}

// TestOutputThatCantBeReadIsSaid has a named pipe in the place of the output.
func TestOutputThatCantBeReadIsSaid(t *testing.T) {
	path := t.TempDir()
	require.NoError(t, unix.Mkfifo(filepath.Join(path, OutputFile), 0o600))
	dir, err := OpenDir(path)
	require.NoError(t, err)
	defer dir.Close()
	var out bytes.Buffer
	f := NewFollower(dir, runner.NewOutput(&out), 0, func() (bool, error) { return true, nil })
	defer f.Close()
	require.NoError(t, f.Pump(t.Context(), time.Time{}))
	require.Contains(t, out.String(), "is missing")
	_, err = createOutput(path)
	require.ErrorIs(t, err, errNotPlain)
}
