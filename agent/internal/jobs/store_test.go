package jobs

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func testCommand(id string) Command {
	return Command{ID: id, TestID: "t-" + id, Type: TypeRunTest, Spec: Spec{Model: "m"}}
}

func TestJobsAreReadBackInTheirOrder(t *testing.T) {
	t.Parallel()
	s, err := Open(t.TempDir(), nil)
	require.NoError(t, err)
	for _, id := range []string{"c", "a", "b"} {
		_, err := s.Create(testCommand(id), FromServer, nil)
		require.NoError(t, err)
	}
	_, err = s.Create(testCommand("a"), FromServer, nil)
	require.ErrorIs(t, err, ErrExists)
	jobs, ignored, err := s.Load()
	require.NoError(t, err)
	require.Empty(t, ignored)
	require.Len(t, jobs, 3)
	require.Equal(t, []string{"c", "a", "b"}, []string{jobs[0].ID, jobs[1].ID, jobs[2].ID})
	require.Equal(t, "t-c", jobs[0].TestID())
	require.Equal(t, StateAccepted, jobs[0].State())
}

// TestAJobMayBeALink has a job that was moved to another disk, and names in the
// jobs directory that are no jobs.
func TestAJobMayBeALink(t *testing.T) {
	t.Parallel()
	s, err := Open(t.TempDir(), nil)
	require.NoError(t, err)
	j, err := s.Create(testCommand("x"), FromServer, nil)
	require.NoError(t, err)
	elsewhere := filepath.Join(t.TempDir(), "moved")
	require.NoError(t, os.Rename(j.Dir, elsewhere))
	require.NoError(t, os.Symlink(elsewhere, j.Dir))
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "notes.txt"), nil, 0o600))
	require.NoError(t, os.Symlink("nowhere", filepath.Join(s.dir, "dangling")))
	jobs, ignored, err := s.Load()
	require.NoError(t, err)
	require.Len(t, jobs, 1)
	require.Equal(t, "x", jobs[0].ID)
	require.NoError(t, jobs[0].Damage)
	require.Len(t, ignored, 2)
	require.NoError(t, s.Remove(jobs[0]))
	require.FileExists(t, filepath.Join(elsewhere, commandFileName), "only the link is the store's")
}

func TestHalfWrittenJobsAreSwept(t *testing.T) {
	t.Parallel()
	s, err := Open(t.TempDir(), nil)
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(filepath.Join(s.dir, newPrefix+"x"), 0o700))
	require.NoError(t, s.Sweep())
	jobs, ignored, err := s.Load()
	require.NoError(t, err)
	require.Empty(t, ignored)
	require.Empty(t, jobs)
	require.NoDirExists(t, filepath.Join(s.dir, newPrefix+"x"))
}

func TestRemovedJobsAreRemembered(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := Open(dir, nil)
	require.NoError(t, err)
	j, err := s.Create(testCommand("x"), FromServer, nil)
	require.NoError(t, err)
	require.False(t, s.Removed("x"))
	require.NoError(t, s.Remove(j))
	require.NoDirExists(t, j.Dir)
	require.True(t, s.Removed("x"))
	again, err := Open(dir, nil)
	require.NoError(t, err)
	require.True(t, again.Removed("x"))
}

// TestStateMachine takes jobs through random steps: only those of the table are
// made, what is on disk is what is in memory, and an end is final.
func TestStateMachine(t *testing.T) {
	t.Parallel()
	s, err := Open(t.TempDir(), nil)
	require.NoError(t, err)
	all := []State{StateAccepted, StatePreparing, StateRunning, StateFinishing, StateCompleted, StateFailed, StateCancelled}
	rapid.Check(t, func(t *rapid.T) {
		id := NewID()
		j, err := s.Create(testCommand(id), FromServer, nil)
		require.NoError(t, err)
		ends := 0
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			before := j.State()
			to := rapid.SampledFrom(all).Draw(t, "to")
			err := j.Transition(to, true, func(rec *Record) { rec.Outcome = &Outcome{State: StateFailed} })
			require.Equal(t, before.mayFollow(to), err == nil)
			if err != nil {
				require.Equal(t, before, j.State())
				continue
			}
			require.False(t, before.Ended(), "nothing follows an end")
			if to.Ended() {
				ends++
			}
			read, err := s.read(id)
			require.NoError(t, err)
			require.NoError(t, read.Damage)
			require.Equal(t, to, read.State())
		}
		require.LessOrEqual(t, ends, 1)
		require.NoError(t, os.RemoveAll(j.Dir))
	})
}

func TestAFullDiskHoldsUpNoBenchmark(t *testing.T) {
	t.Parallel()
	s, err := Open(t.TempDir(), nil)
	require.NoError(t, err)
	j, err := s.Create(testCommand("x"), FromServer, nil)
	require.NoError(t, err)
	moved := j.Dir + ".moved"
	require.NoError(t, os.Rename(j.Dir, moved)) // nothing can be written any more
	require.Error(t, j.Transition(StatePreparing, true, nil), "a strict step is not made unless it is written")
	require.Equal(t, StateAccepted, j.State())
	require.Error(t, j.Transition(StatePreparing, false, nil))
	require.Equal(t, StatePreparing, j.State())
	require.False(t, j.Save())
	require.NoError(t, os.Rename(moved, j.Dir))
	require.True(t, j.Save(), "written once there is room")
	read, err := s.read("x")
	require.NoError(t, err)
	require.NoError(t, read.Damage)
	require.Equal(t, StatePreparing, read.State())
}
