//go:build unix

package supervisor_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/supervisor"
)

// TestDirTrustsNothing puts what a container can make in the place of each file
// that the agent reads. None is followed, waited for, or read.
func TestDirTrustsNothing(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte(`{"version":1,"code":7,"error":"secret"}`), 0o600))
	for name, trap := range map[string]func(path string) error{
		"symbolic link":  func(path string) error { return os.Symlink(secret, path) },
		"second name":    func(path string) error { return os.Link(secret, path) },
		"dangling link":  func(path string) error { return os.Symlink("nowhere", path) },
		"pipe":           func(path string) error { return unix.Mkfifo(path, 0o666) },
		"directory":      func(path string) error { return os.Mkdir(path, 0o777) },
		"socket":         func(path string) error { return unix.Mknod(path, unix.S_IFSOCK|0o666, 0) },
		"large file":     func(path string) error { return os.WriteFile(path, make([]byte, 1<<20), 0o600) },
		"no JSON":        func(path string) error { return os.WriteFile(path, []byte("{"), 0o600) },
		"empty":          func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"no version":     func(path string) error { return os.WriteFile(path, []byte(`{"code":0}`), 0o600) },
		"another's type": func(path string) error { return os.WriteFile(path, []byte(`{"version":"1","code":0}`), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			d := open(t, dir)
			for _, file := range []string{supervisor.ExitFile, supervisor.ClaimFile, supervisor.GapsFile, supervisor.LockFile, supervisor.IndexFile} {
				// A second name of the same file counts, too.
				path := filepath.Join(dir, file)
				if name == "second name" {
					secret := filepath.Join(t.TempDir(), "secret")
					require.NoError(t, os.WriteFile(secret, []byte(`{"version":1}`), 0o600))
					require.NoError(t, os.Link(secret, path))
					continue
				}
				require.NoError(t, trap(path))
			}
			_, found, err := d.Exit()
			require.Error(t, err)
			require.False(t, found)
			_, found, err = d.Claim()
			require.Error(t, err)
			require.False(t, found)
			claimed, err := d.Claimed()
			require.NoError(t, err)
			require.True(t, claimed, "whatever it is, somebody made it")
			held, _ := d.Held()
			require.False(t, held)
		})
	}
}

// TestDirIsHeld replaces the directory's name by another directory's.
func TestDirIsHeld(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	dir, other := filepath.Join(parent, "run"), filepath.Join(parent, "other")
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, os.Mkdir(other, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(other, "exit.json"), []byte(`{"version":1}`), 0o600))
	d := open(t, dir)
	require.NoError(t, os.Rename(dir, dir+".old"))
	require.NoError(t, os.Symlink(other, dir))
	_, found, err := d.Exit()
	require.NoError(t, err)
	require.False(t, found)
	_, err = supervisor.OpenDir(dir)
	require.Error(t, err, "a link is no directory")
}

// TestExitStaysWithinBounds has numbers and texts in exit.json that can't be.
func TestExitStaysWithinBounds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := open(t, dir)
	for text, want := range map[string]runner.ExitError{
		`{"version":1,"code":-1}`:                             {Code: 255},
		`{"version":1,"code":4000000000}`:                     {Code: 255},
		`{"version":1,"code":3,"signal":"SIGKILL"}`:           {Code: 3},
		`{"version":1,"code":143,"signal":"SIGTERM"}`:         {Code: 143, Signal: "SIGTERM"},
		`{"version":1,"code":143,"signal":"../x"}`:            {Code: 143},
		`{"version":1,"code":3,"oom":true}`:                   {Code: 3},
		`{"version":1,"code":137,"oom":true,"x":{"later":1}}`: {Code: 137, OOMKilled: true},
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "exit.json"), []byte(text), 0o600))
		end, found, err := d.Exit()
		require.NoError(t, err, text)
		require.True(t, found)
		var exit *runner.ExitError
		require.ErrorAs(t, end.Err(), &exit, text)
		require.Equal(t, want, *exit, text)
		require.False(t, end.Ended.IsZero())
	}
	text := fmt.Sprintf(`{"version":1,"error":"a\u001b[31m\nb","ended":"%d-01-01T00:00:00Z"}`, time.Now().Year()+5)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "exit.json"), []byte(text), 0o600))
	end, _, err := d.Exit()
	require.NoError(t, err)
	require.ErrorIs(t, end.Err(), runner.ErrUnavailable)
	require.NotContains(t, end.Err().Error(), "\x1b")
	require.NotContains(t, end.Err().Error(), "\n")
	require.False(t, end.Ended.After(time.Now()))

	require.NoError(t, os.WriteFile(filepath.Join(dir, "exit.json"), []byte(`{"version":2}`), 0o600))
	_, found, err := d.Exit()
	require.ErrorIs(t, err, supervisor.ErrVersion)
	require.False(t, found)
}
