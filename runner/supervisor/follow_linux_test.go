package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/runnertest"
	"github.com/kirizan/kitt-agent/runner/supervisor"
)

// follow passes the output of the run in dir on until its supervisor is gone.
func follow(t *testing.T, dir string, from int64, out runner.Output) *supervisor.Follower {
	t.Helper()
	d := open(t, dir)
	f := supervisor.NewFollower(d, out, from, func() (bool, error) {
		held, err := d.Held()
		return !held, err
	})
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f
}

func TestFollow(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := program(t, dir, "--", "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.05; done")
	require.NoError(t, cmd.Run())
	for from, want := range []string{"1\n2\n3\n", "\n2\n3\n", "2\n3\n"} {
		var out runnertest.Recorder
		require.NoError(t, follow(t, dir, int64(from), &out).Pump(t.Context(), time.Time{}))
		require.Equal(t, want, out.Text())
		require.EqualValues(t, 6, out.Position())
	}
}

// TestOldOutputBearsItsTime reads output long after it was printed.
func TestOldOutputBearsItsTime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old := time.Now().Add(-time.Hour)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "output"), []byte("one\ntwo\nthree\n"), 0o600))
	index := entry(4, old)
	index = append(index, entry(8, old.Add(5*time.Second))...)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "index"), index, 0o600))
	out := &timed{}
	require.NoError(t, follow(t, dir, 0, out).Pump(t.Context(), time.Time{}))
	require.Equal(t, []string{"one\n", "two\n", "three\n"}, out.texts)
	require.WithinDuration(t, old, out.times[0], time.Millisecond)
	require.WithinDuration(t, old.Add(5*time.Second), out.times[1], time.Millisecond)
	require.Zero(t, out.times[2], "the index doesn't tell: it was printed just now")
}

func entry(size int64, at time.Time) []byte {
	var b [16]byte
	for i := range 8 {
		b[i] = byte(size >> (8 * i))
		b[8+i] = byte(at.UnixNano() >> (8 * i))
	}
	return b[:]
}

type timed struct {
	runnertest.Recorder
	texts []string
	times []time.Time
}

func (o *timed) WriteOutput(p []byte, at time.Time, _ runner.Position) error {
	o.texts, o.times = append(o.texts, string(p)), append(o.times, at)
	return nil
}

// TestCeiling prints more than may be kept while nobody reads: the benchmark
// succeeds, the file stays small, and the reader is told what is missing.
func TestCeiling(t *testing.T) {
	t.Parallel()
	const limit, line = 8 << 20, 1000
	dir := t.TempDir()
	lines := 40_000
	script := fmt.Sprintf(`i=0; while [ $i -lt 20 ]; do head -c %d /dev/zero | tr '\0' '\n' | sed 's/^/%s/'; sleep 0.06; i=$((i+1)); done`,
		lines/20, strings.Repeat("x", line-1))
	cmd := program(t, dir, "-limit", strconv.Itoa(limit), "--", "sh", "-c", script)
	require.NoError(t, cmd.Run())
	var stat unix.Stat_t
	require.NoError(t, unix.Stat(filepath.Join(dir, "output"), &stat))
	require.EqualValues(t, lines*line, stat.Size, "positions stay")
	if stat.Blocks*512 > int64(lines*line)-4096 {
		t.Skip("this file system makes no holes")
	}
	require.Less(t, stat.Blocks*512, int64(2*limit))

	var out runnertest.Recorder
	require.NoError(t, follow(t, dir, 0, &out).Pump(t.Context(), time.Time{}))
	require.NotContains(t, out.Text(), "\x00", "what was removed isn't passed on as zeros")
	var missing int64
	_, err := fmt.Sscanf(out.Messages(), "%d bytes of the output are missing here", &missing)
	require.NoError(t, err, out.Messages())
	require.EqualValues(t, lines*line, missing+int64(len(out.Text())))
	require.EqualValues(t, lines*line, out.Position())
}

// TestWhatWasReadIsNotMissing prints more than may be kept while somebody reads
// along: all of it arrives.
func TestWhatWasReadIsNotMissing(t *testing.T) {
	t.Parallel()
	const limit, line, lines = 8 << 20, 1000, 40_000
	dir := t.TempDir()
	script := fmt.Sprintf(`i=0; while [ $i -lt 20 ]; do head -c %d /dev/zero | tr '\0' '\n' | sed 's/^/%s/'; sleep 0.2; i=$((i+1)); done`,
		lines/20, strings.Repeat("x", line-1))
	cmd := program(t, dir, "-limit", strconv.Itoa(limit), "--", "sh", "-c", script)
	require.NoError(t, cmd.Start())
	eventually(t, func() bool { held, err := open(t, dir).Held(); return err == nil && held })
	var out runnertest.Recorder
	require.NoError(t, follow(t, dir, 0, &out).Pump(t.Context(), time.Time{}))
	require.NoError(t, cmd.Wait())
	require.Empty(t, out.Messages())
	require.Len(t, out.Text(), lines*line)
	gaps, err := os.ReadFile(filepath.Join(dir, "gaps.json"))
	require.NoError(t, err)
	require.Contains(t, string(gaps), `"unread":null`)
	require.NotContains(t, string(gaps), `"freed":0,`)
}

// TestFullDiskWithoutAReader fills the disk for good while nobody reads: the
// benchmark prints on, more than there is room for.
func TestFullDiskWithoutAReader(t *testing.T) {
	t.Parallel()
	mount := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=48m", "none", mount).CombinedOutput(); err != nil {
		t.Skipf("no file system of its own for the test: mount: %v: %s", err, out)
	}
	t.Cleanup(func() { require.NoError(t, unix.Unmount(mount, unix.MNT_DETACH)) })
	dir := filepath.Join(mount, "run")
	require.NoError(t, os.Mkdir(dir, 0o700))
	// 70 MB in all, 1 MB at a time.
	cmd := program(t, dir, "--", "sh", "-c", `i=0; while [ $i -lt 70 ]; do head -c 1000000 /dev/zero | tr '\0' x; echo; sleep 0.08; i=$((i+1)); done`)
	require.NoError(t, cmd.Start())
	require.NoError(t, cmd.Wait())
	end, found, err := open(t, dir).Exit()
	require.NoError(t, err)
	require.True(t, found)
	require.Zero(t, end.Code)
	var out runnertest.Recorder
	require.NoError(t, follow(t, dir, 0, &out).Pump(t.Context(), time.Time{}))
	require.Contains(t, out.Messages(), "missing here")
	require.NotContains(t, out.Text(), "\x00")
	require.EqualValues(t, 70*1_000_001, out.Position())
}

// TestHostileFiles has a benchmark tell of gaps and times that can't be.
func TestHostileFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "output"), []byte("one\ntwo\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "gaps.json"), []byte(`{"version":1,"freed":9000000000000000000}`), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "index"), append(entry(-5, time.Now()), entry(1<<62, time.Unix(1, 0))...), 0o600))
	var out runnertest.Recorder
	require.NoError(t, follow(t, dir, 0, &out).Pump(t.Context(), time.Time{}))
	require.Equal(t, "one\ntwo\n", out.Text())
}

func TestPumpEnds(t *testing.T) {
	t.Parallel()
	d := open(t, t.TempDir())
	f := supervisor.NewFollower(d, &runnertest.Recorder{}, 0, func() (bool, error) { return false, nil })
	require.ErrorIs(t, f.Pump(t.Context(), time.Now()), supervisor.ErrLate)
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	require.Equal(t, cause, f.Pump(ctx, time.Time{}))
	broken := errors.New("broken")
	f = supervisor.NewFollower(d, &runnertest.Recorder{}, 0, func() (bool, error) { return false, broken })
	require.Equal(t, broken, f.Pump(t.Context(), time.Time{}))
}
