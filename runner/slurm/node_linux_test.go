package slurm

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/runnertest"
	"github.com/kirizan/kitt-agent/runner/supervisor"
)

// A wrapper leaves what a newer agent has written alone, and what is cancelled.
func TestTheWrapperRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, specFile)
	require.NoError(t, os.WriteFile(path, []byte(`{"version":2,"command":["/bin/false"]}`), 0o600))
	var said bytes.Buffer
	require.Equal(t, supervisor.StatusFailed, RunOnNode([]string{"script", path}, &said))
	require.Contains(t, said.String(), "written by a newer version")

	require.NoError(t, os.WriteFile(path, []byte(`{"version":1,"command":["/bin/false"]}`), 0o600))
	require.NoError(t, supervisor.Prepare(dir))
	require.NoError(t, supervisor.Cancel(dir))
	said.Reset()
	require.Zero(t, RunOnNode([]string{path}, &said))
	require.Contains(t, said.String(), "the job is cancelled")
	require.NoFileExists(t, filepath.Join(dir, claimFile))
	require.Equal(t, supervisor.StatusFailed, RunOnNode(nil, &said))
}

// The clock of a node may be an hour ahead: what the file server says of two files shows
// by how much.
func TestClocksThatDiffer(t *testing.T) {
	t.Parallel()
	job := runner.Job{ID: "1", Dir: t.TempDir()}
	dir := directory(job)
	require.NoError(t, os.Mkdir(dir, 0o700))
	now := time.Now().UTC()
	in := intent{Version: version, Job: "1", Name: "a", At: now}
	require.NoError(t, writeState(dir, intentFile, in))
	claim := supervisor.Claim{Version: supervisor.Version, Boot: base.BootID(), At: now.Add(time.Hour)}
	require.NoError(t, claim.WriteSoon(dir))
	r, err := New(Config{Owner: "a", SharedDir: "/s", Wrapper: noWrapper})
	require.NoError(t, err)
	f, err := r.newFollower(job, in, 0, &runnertest.Recorder{})
	require.NoError(t, err)
	defer f.close()
	require.InDelta(t, time.Hour, f.shift(), float64(time.Minute))
	require.WithinDuration(t, now, f.begun().Started, time.Minute)
	// The file server's own clock makes no difference.
	for _, name := range []string{intentFile, claimFile} {
		old := unix.NsecToTimeval(now.Add(-24 * time.Hour).UnixNano())
		require.NoError(t, unix.Utimes(filepath.Join(dir, name), []unix.Timeval{old, old}))
	}
	require.InDelta(t, time.Hour, f.clockSkew(), float64(time.Minute))
}
