package program_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/docker/socketproxy"
	"github.com/kirizan/kitt-agent/runner/supervisor/program"
)

// A program that isn't a released one and has its sources at hand builds it.
func ExampleFinder_Find() {
	dir, err := os.MkdirTemp("", "state")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	p, err := program.NewFinder(program.Source{Dir: dir}).Find(context.Background())
	if err != nil {
		panic(err)
	}
	fmt.Println(p.From)
	// Output: built by go
}

func TestBuildOnce(t *testing.T) {
	t.Parallel()
	f := program.NewFinder(program.Source{Dir: filepath.Join(t.TempDir(), "state")})
	p, err := f.Find(t.Context())
	require.NoError(t, err)
	out, err := exec.Command(p.Path, append(p.Args, "-check")...).Output()
	require.NoError(t, err)
	require.Equal(t, "kitt-supervise 1\n", string(out))
	info, err := os.Stat(p.Path)
	require.NoError(t, err)
	require.EqualValues(t, 0o755, info.Mode().Perm()&0o755, "a container's user may be any")

	again, err := f.Find(t.Context())
	require.NoError(t, err)
	require.Equal(t, p, again)
	require.NoError(t, os.Remove(p.Path))
	_, err = f.Find(t.Context())
	require.NoError(t, err)
	require.FileExists(t, p.Path, "it is made again when somebody removed it")
}

// TestSocketProxy is a program of its own, and at worst the running one.
func TestSocketProxy(t *testing.T) {
	t.Parallel()
	source := program.Source{Tool: program.SocketProxy, Dir: t.TempDir()}
	p, err := program.NewFinder(source).Find(t.Context())
	require.NoError(t, err)
	require.Equal(t, "built by go", p.From)
	require.Contains(t, p.Path, "kitt-socket-proxy")
	out, err := exec.Command(p.Path, "-check").Output()
	require.NoError(t, err)
	require.Equal(t, socketproxy.CheckWord+"\n", string(out))

	other, err := program.NewFinder(program.Source{Dir: t.TempDir()}).Find(t.Context())
	require.NoError(t, err)
	source.Path = other.Path
	_, err = program.NewFinder(source).Find(t.Context())
	require.ErrorContains(t, err, "there is no kitt-socket-proxy between them and the engine: configured: ")
	require.ErrorContains(t, err, "another program")
}

// TestConfigured names the program: it is that one or none.
func TestConfigured(t *testing.T) {
	t.Parallel()
	good, err := program.NewFinder(program.Source{Dir: t.TempDir()}).Find(t.Context())
	require.NoError(t, err)
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(good.Path, link))
	p, err := program.NewFinder(program.Source{Path: link}).Find(t.Context())
	require.NoError(t, err)
	require.Equal(t, "configured", p.From)
	require.NotEqual(t, link, p.Path, "an engine mounts the file itself")

	text := filepath.Join(t.TempDir(), "text")
	require.NoError(t, os.WriteFile(text, []byte("#!/bin/sh\necho kitt-supervise 1\n"), 0o755))
	other := filepath.Join(t.TempDir(), "other")
	require.NoError(t, os.WriteFile(filepath.Join(t.TempDir(), "x"), nil, 0o600))
	build := exec.Command("go", "build", "-o", other, "github.com/kirizan/kitt-agent/runner/runnertest/fakekitt")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	require.NoError(t, build.Run())
	plain := filepath.Join(t.TempDir(), "plain")
	data, err := os.ReadFile(good.Path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(plain, data, 0o644))
	for path, why := range map[string]string{
		"/bin/sh":                             "linked dynamically",
		text:                                  "bad magic number",
		other:                                 "exit status",
		plain:                                 "permission denied",
		filepath.Join(t.TempDir(), "no-such"): "no such file",
		"/proc/self/fd":                       "",
	} {
		_, err := program.NewFinder(program.Source{Path: path, Dir: t.TempDir()}).Find(t.Context())
		require.ErrorIs(t, err, runner.ErrUnavailable, path)
		require.ErrorContains(t, err, why)
		var e *runner.Error
		require.ErrorAs(t, err, &e)
		require.NotEmpty(t, e.Fix)
		require.NotContains(t, e.Error(), "\n")
	}
}

// TestNothingWorks says of each source why it doesn't.
func TestNothingWorks(t *testing.T) {
	t.Setenv("PATH", "")
	_, err := program.NewFinder(program.Source{Dir: t.TempDir()}).Find(t.Context())
	require.ErrorIs(t, err, runner.ErrUnavailable)
	for _, why := range []string{
		"held by this program: it holds none", "this program itself: it can't be kitt-supervise",
		"next to this program: ", "built by go: there is no go command",
	} {
		require.ErrorContains(t, err, why)
	}
}

func TestFindIsStopped(t *testing.T) {
	t.Parallel()
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	f := program.NewFinder(program.Source{Dir: t.TempDir()})
	_, err := f.Find(ctx)
	require.ErrorIs(t, err, cause)
	_, err = f.Find(t.Context())
	require.NoError(t, err, "that it was stopped is no answer")
}

// TestNothingIsKnownForLong has a look that fails and what it looks for appear
// later: neither a caller that asks what is known nor the next look is stuck.
func TestNothingIsKnownForLong(t *testing.T) {
	t.Parallel()
	good, err := program.NewFinder(program.Source{Dir: t.TempDir()}).Find(t.Context())
	require.NoError(t, err)
	data, err := os.ReadFile(good.Path)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "later")
	synctest.Test(t, func(t *testing.T) {
		f := program.NewFinder(program.Source{Path: path})
		require.NoError(t, f.Known(), "nobody has looked")
		_, err := f.Find(t.Context())
		require.Error(t, err)
		require.Equal(t, err, f.Known())
		require.NoError(t, os.WriteFile(path, data, 0o755))
		_, err = f.Find(t.Context())
		require.Equal(t, f.Known(), err, "it stands for a while")
		time.Sleep(time.Minute)
		require.NoError(t, f.Known())
		_, err = f.Find(t.Context())
		require.NoError(t, err)
	})
}

// TestTroubleIsNoAnswer has a file that the machine fails to read, as with too many open
// files: nothing is known of it, and a job waits for the next look.
func TestTroubleIsNoAnswer(t *testing.T) {
	t.Parallel()
	good, err := program.NewFinder(program.Source{Dir: t.TempDir()}).Find(t.Context())
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink("/proc/self/mem", path)) // its first byte can't be read
	synctest.Test(t, func(t *testing.T) {
		f := program.NewFinder(program.Source{Path: path})
		_, err := f.Find(t.Context())
		require.ErrorIs(t, err, syscall.EIO)
		require.ErrorIs(t, err, runner.ErrNotReady)
		require.NotErrorIs(t, err, runner.ErrUnavailable, "another runner would take the job")
		require.NoError(t, f.Known())
		require.NoError(t, os.Remove(path))
		require.NoError(t, os.Symlink(good.Path, path))
		time.Sleep(2 * time.Second)
		_, err = f.Find(t.Context())
		require.NoError(t, err)
	})
}
