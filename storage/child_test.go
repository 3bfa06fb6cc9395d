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

	"github.com/kirizan/kitt-agent/storage"
)

// childEnv makes the test binary an agent that copies a model, to be killed.
const childEnv = "KITT_STORAGE_CHILD"

func runChild() {
	dir, share, _ := strings.Cut(os.Getenv(childEnv), "\n")
	l, err := storage.New(storage.Config{Settings: storage.Settings{Dir: dir, ShareMount: share}})
	if err == nil {
		_, err = l.Acquire(context.Background(), storage.Request{Model: "m", Holder: "killed"})
	}
	fmt.Println("end", err)
}

func TestGoesOnAfterAKill(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	const size = 256 << 20
	write(t, b.share, map[string]string{"m/one": noise(size/2, 1), "m/two": noise(size/2, 2), "m/small": "1"})
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"="+b.dir+"\n"+b.share)
	require.NoError(t, cmd.Start())
	stages := filepath.Join(b.dir, ".kitt-part-*", "journal")
	require.Eventually(t, func() bool {
		journals, err := filepath.Glob(stages)
		if err != nil || len(journals) == 0 {
			return false
		}
		info, err := os.Stat(journals[0])
		return err == nil && info.Size() > 1000 // about 15 pieces
	}, 30*time.Second, time.Millisecond)
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	require.NoDirExists(t, filepath.Join(b.dir, "m"))

	var log safeBuffer
	lease, err := b.Acquire(t.Context(), storage.Request{Model: "m", Holder: "killed", Log: &log})
	require.NoError(t, err)
	require.Contains(t, log.String(), "going on with an interrupted copy")
	require.Equal(t, snapshot(t, filepath.Join(b.share, "m")), snapshot(t, lease.Path))
	require.Equal(t, []string{"m"}, names(t, b.dir))
}
