package storage_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/internal/base/basetest"
	"github.com/kirizan/kitt-agent/storage"
)

// childEnv makes the test binary an agent that copies a model. It holds the
// storage directory, the share, the model and what to do, quoted.
const childEnv = "KITT_STORAGE_CHILD"

const (
	pollFor   = 30 * time.Second
	pollEvery = time.Millisecond
)

func runChild() {
	var dir, share, model, what string
	_, err := fmt.Sscanf(os.Getenv(childEnv), "%q %q %q %q", &dir, &share, &model, &what)
	if err == nil {
		err = beAgent(dir, share, model, what)
	}
	fmt.Println("end", err)
}

// beAgent copies the model once, and leaves the lease to whoever comes; or, with
// rounds in what, several times, and gives it up each time.
func beAgent(dir, share, model, what string) error {
	rounds := 1
	often := strings.HasPrefix(what, "rounds")
	if often {
		rounds = 10
	}
	for range rounds {
		l, err := storage.New(storage.Config{Owner: what, Settings: storage.Settings{Dir: dir, ShareMount: share, AutoCleanup: often}})
		if err != nil {
			return err
		}
		lease, err := l.Acquire(context.Background(), storage.Request{Model: model, Holder: what})
		if err != nil {
			return err
		}
		if often {
			if _, err := os.ReadFile(filepath.Join(lease.Path, "d/two")); err != nil {
				return err
			}
			if err := lease.Release(); err != nil {
				return err
			}
		}
		if err := l.Close(); err != nil {
			return err
		}
	}
	return nil
}

// child returns an agent of a process of its own, ready to be started.
func child(t testing.TB, dir, share, model, what string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%q %q %q %q", childEnv, dir, share, model, what))
	cmd.Stderr = os.Stderr
	return cmd
}

// startChild starts an agent that copies a model, and returns what kills it.
func startChild(t testing.TB, dir, share, model string) (kill func()) {
	t.Helper()
	cmd := child(t, dir, share, model, "killed")
	require.NoError(t, cmd.Start())
	return func() {
		t.Helper()
		require.NoError(t, cmd.Process.Kill())
		require.Error(t, cmd.Wait(), "it was killed before its end")
	}
}

// journalled returns the size of the journal of the only copy that is being made
// in dir, which may be a pattern; a piece takes some 60 bytes.
func journalled(dir string) int64 {
	journals, err := filepath.Glob(filepath.Join(dir, ".kitt-part-*", "journal"))
	if err != nil || len(journals) == 0 {
		return 0
	}
	info, err := os.Stat(journals[0])
	if err != nil {
		return 0
	}
	return info.Size()
}

func TestResumesAfterAKill(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	const size = 256 << 20
	write(t, b.share, map[string]string{"m/one": noise(size/2, 1), "m/two": noise(size/2, 2), "m/small": "1"})
	kill := startChild(t, b.dir, b.share, "m")
	require.Eventually(t, func() bool { return journalled(b.dir) > 1000 }, pollFor, pollEvery)
	kill()
	require.NoDirExists(t, filepath.Join(b.dir, "m"))

	var log basetest.Buffer
	lease, err := b.Acquire(t.Context(), storage.Request{Model: "m", Holder: "killed", Log: &log})
	require.NoError(t, err)
	require.Contains(t, log.String(), "resuming an interrupted copy")
	require.Equal(t, snapshot(t, filepath.Join(b.share, "m")), snapshot(t, lease.Path))
	require.Equal(t, []string{"m"}, names(t, b.dir))
}
