package agent

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kirizan/kitt-agent/heartbeat"
)

func testOrder(id string) order {
	return order{
		Version:    recordVersion,
		Command:    heartbeat.Command{ID: id, TestID: "t-" + id, Type: TypeRunTest, Payload: json.RawMessage(`{"model_path":"m"}`)},
		Source:     sourceServer,
		AcceptedAt: time.Now(),
	}
}

func TestJobsAreReadBackInTheirOrder(t *testing.T) {
	t.Parallel()
	s, err := openStore(t.TempDir())
	require.NoError(t, err)
	for _, id := range []string{"c", "a", "b"} {
		_, err := s.create(id, testOrder(id), newRecord(testOrder(id)))
		require.NoError(t, err)
	}
	_, err = s.create("a", testOrder("a"), newRecord(testOrder("a")))
	require.ErrorIs(t, err, errKnown)
	jobs, ignored, err := s.load()
	require.NoError(t, err)
	require.Empty(t, ignored)
	require.Len(t, jobs, 3)
	require.Equal(t, []string{"c", "a", "b"}, []string{jobs[0].id, jobs[1].id, jobs[2].id})
	require.Equal(t, "t-c", jobs[0].testID())
	require.Equal(t, StateAccepted, jobs[0].state())
}

func TestHalfWrittenJobsAreSwept(t *testing.T) {
	t.Parallel()
	s, err := openStore(t.TempDir())
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(filepath.Join(s.dir, newPrefix+"x"), 0o700))
	require.NoError(t, s.sweep())
	jobs, ignored, err := s.load()
	require.NoError(t, err)
	require.Empty(t, ignored)
	require.Empty(t, jobs)
	require.NoDirExists(t, filepath.Join(s.dir, newPrefix+"x"))
}

func TestRemovedJobsAreRemembered(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := openStore(dir)
	require.NoError(t, err)
	j, err := s.create("x", testOrder("x"), newRecord(testOrder("x")))
	require.NoError(t, err)
	require.False(t, s.ended("x"))
	require.NoError(t, s.remove(j))
	require.NoDirExists(t, j.dir)
	require.True(t, s.ended("x"))
	again, err := openStore(dir)
	require.NoError(t, err)
	require.True(t, again.ended("x"))
}

// TestStateMachine takes jobs through random steps: only those of the table are
// made, what is on disk is what is in memory, and an end is final.
func TestStateMachine(t *testing.T) {
	t.Parallel()
	s, err := openStore(t.TempDir())
	require.NoError(t, err)
	all := []State{StateAccepted, StatePreparing, StateRunning, StateFinishing, StateCompleted, StateFailed, StateCancelled}
	rapid.Check(t, func(t *rapid.T) {
		id := newID()
		j, err := s.create(id, testOrder(id), newRecord(testOrder(id)))
		require.NoError(t, err)
		ends := 0
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			before := j.state()
			to := rapid.SampledFrom(all).Draw(t, "to")
			err := j.transition(to, true, func(rec *record) { rec.Outcome = &ending{State: to} })
			require.Equal(t, before.mayFollow(to), err == nil)
			if err != nil {
				require.Equal(t, before, j.state())
				continue
			}
			require.False(t, before.Ended(), "nothing follows an end")
			if to.Ended() {
				ends++
			}
			read, err := s.read(id)
			require.NoError(t, err)
			require.NoError(t, read.damage)
			require.Equal(t, to, read.state())
		}
		require.LessOrEqual(t, ends, 1)
		require.NoError(t, os.RemoveAll(j.dir))
	})
}

func TestAFullDiskHoldsUpNoBenchmark(t *testing.T) {
	t.Parallel()
	s, err := openStore(t.TempDir())
	require.NoError(t, err)
	j, err := s.create("x", testOrder("x"), newRecord(testOrder("x")))
	require.NoError(t, err)
	moved := j.dir + ".moved"
	require.NoError(t, os.Rename(j.dir, moved)) // nothing can be written any more
	require.Error(t, j.transition(StatePreparing, true, nil), "a strict step is not made unless it is written")
	require.Equal(t, StateAccepted, j.state())
	require.Error(t, j.transition(StatePreparing, false, nil))
	require.Equal(t, StatePreparing, j.state())
	require.False(t, j.save())
	require.NoError(t, os.Rename(moved, j.dir))
	require.True(t, j.save(), "written once there is room")
	read, err := s.read("x")
	require.NoError(t, err)
	require.NoError(t, read.damage)
	require.Equal(t, StatePreparing, read.state())
}
