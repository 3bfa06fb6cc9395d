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
	jobs, damaged, err := s.load()
	require.NoError(t, err)
	require.Empty(t, damaged)
	require.Len(t, jobs, 3)
	require.Equal(t, []string{"c", "a", "b"}, []string{jobs[0].id, jobs[1].id, jobs[2].id})
	require.Equal(t, "t-c", jobs[0].testID())
	require.Equal(t, StateAccepted, jobs[0].state())
}

func TestDamagedJobsAreSetAside(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(dir string) error{
		"record is garbage": func(dir string) error { return os.WriteFile(filepath.Join(dir, recordFile), []byte("\x00\x00"), 0o600) },
		"record is gone":    func(dir string) error { return os.Remove(filepath.Join(dir, recordFile)) },
		"record is a directory": func(dir string) error {
			os.Remove(filepath.Join(dir, recordFile))
			return os.Mkdir(filepath.Join(dir, recordFile), 0o700)
		},
		"state is unknown": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, recordFile), []byte(`{"state":"flying"}`), 0o600)
		},
		"ended without outcome": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, recordFile), []byte(`{"state":"failed"}`), 0o600)
		},
		"order is of another job": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, orderFile), []byte(`{"command":{"command_id":"other"}}`), 0o600)
		},
		"order is gone": func(dir string) error { return os.Remove(filepath.Join(dir, orderFile)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := openStore(t.TempDir())
			require.NoError(t, err)
			for _, id := range []string{"good", "bad"} {
				_, err := s.create(id, testOrder(id), newRecord(testOrder(id)))
				require.NoError(t, err)
			}
			require.NoError(t, harm(filepath.Join(s.dir, "bad")))
			jobs, damaged, err := s.load()
			require.NoError(t, err)
			require.Len(t, jobs, 1)
			require.Equal(t, "good", jobs[0].id)
			require.Len(t, damaged, 1)
			require.Equal(t, "bad", damaged[0].id)
			require.DirExists(t, damaged[0].path)
			require.NoDirExists(t, filepath.Join(s.dir, "bad"))

			_, damaged, err = s.load()
			require.NoError(t, err)
			require.Empty(t, damaged, "what was set aside is left alone")
		})
	}
}

func TestHalfWrittenJobsAreSwept(t *testing.T) {
	t.Parallel()
	s, err := openStore(t.TempDir())
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(filepath.Join(s.dir, newPrefix+"x"), 0o700))
	require.NoError(t, s.sweep())
	jobs, damaged, err := s.load()
	require.NoError(t, err)
	require.Empty(t, jobs)
	require.Empty(t, damaged)
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
			read, _, err := s.read(id)
			require.NoError(t, err)
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
	read, _, err := s.read("x")
	require.NoError(t, err)
	require.Equal(t, StatePreparing, read.state())
}
