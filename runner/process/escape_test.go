package process_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/process"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// escapes are benchmarks that try to outlive their cancel, as shell scripts. JOB is the
// job's directory, and OUT one that they write to: each process of theirs that stays
// adds its PID to the file pids, and what goes on adds lines to the file beat.
var escapes = map[string]string{
	"daemon": `(setsid sh -c 'echo $$ >> OUT/pids; echo ready; exec sleep 1000' &)
sleep 1000`,
	"daemon that kills the supervisor": `(setsid sh -c 'echo $$ >> OUT/pids; exec sleep 1000' &)
while ! [ -s OUT/pids ]; do :; done
echo ready; echo $$ >> OUT/pids; kill -9 $PPID; exec sleep 1000`,
	"directory moved away": `echo $$ >> OUT/pids; mv JOB JOB.moved; echo ready; exec sleep 1000`,
	"files of another boot": `(setsid sh -c 'echo $$ >> OUT/pids; exec sleep 1000' &)
while ! [ -s OUT/pids ]; do :; done
echo '{"version":1,"boot":"another","supervisor":{"pid":1,"start":1},"child":{"pid":1,"start":1}}' > JOB/process/started.json
echo '{"version":1,"cgroup":"/sys/fs/cgroup"}' > JOB/process/spec.json
echo ready; kill -9 $PPID; exec sleep 1000`,
	"forks faster than anybody looks": `echo x >> OUT/beat
[ -e OUT/ready ] || { touch OUT/ready; echo ready; }
setsid "$0" &`,
}

// TestEscapes cancels them. Nothing of them lives then, or it is said that something may.
func TestEscapes(t *testing.T) {
	t.Parallel()
	for name, script := range escapes {
		for _, resumed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, resumed %t", name, resumed), func(t *testing.T) {
				t.Parallel()
				job := newJob(t, "m")
				job.StopGrace = 100 * time.Millisecond
				out := t.TempDir()
				kitt := filepath.Join(t.TempDir(), "kitt")
				text := "#!/bin/sh\n" + strings.NewReplacer("JOB", job.Dir, "OUT", out).Replace(script) + "\n"
				require.NoError(t, os.WriteFile(kitt, []byte(text), 0o700))
				t.Cleanup(func() { _ = os.RemoveAll(job.Dir + ".moved") })
				err := escape(t, kitt, job, resumed)
				if errors.Is(err, runner.ErrStillRunning) {
					t.Fatalf("it can't be ended: %v", err)
				}
				requireAllEnded(t, out)
			})
		}
	}
}

// escape runs a job until it is ready, and then ends it, in the same program or in
// another that finds it.
func escape(t *testing.T, kitt string, job runner.Job, resumed bool) error {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	r := process.New(process.Config{Command: kitt, Supervisor: []string{exe, "supervise"}})
	cause := errors.New("stopped by a test")
	first := cause
	if resumed {
		first = runner.ErrDetach
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	var out runnertest.Recorder
	cancelWhen(&out, "ready", func() { cancel(first) })
	_, err = r.Run(ctx, job, &out)
	if !resumed || !errors.Is(err, runner.ErrDetach) {
		return err
	}
	ended, stop := context.WithCancelCause(t.Context())
	stop(cause)
	_, err = r.Resume(ended, job, out.Position(), &out)
	return err
}

// requireAllEnded checks that no process that is named in pids lives, and that beat no
// longer grows.
func requireAllEnded(t *testing.T, dir string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "pids"))
	if err == nil {
		for word := range strings.FieldsSeq(string(text)) {
			pid, err := strconv.Atoi(word)
			require.NoError(t, err)
			require.False(t, running(pid), "process %d lives", pid)
		}
	}
	size := func() int64 {
		info, err := os.Stat(filepath.Join(dir, "beat"))
		if err != nil {
			return 0
		}
		return info.Size()
	}
	before := size()
	require.Never(t, func() bool { return size() != before }, 300*time.Millisecond, 50*time.Millisecond)
}
