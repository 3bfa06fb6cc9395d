package jobs

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// storedJob returns a store with the jobs good and bad, the latter in state.
func storedJob(t *testing.T, state State) (s *Store, bad *Job) {
	t.Helper()
	s, err := Open(t.TempDir(), nil)
	require.NoError(t, err)
	for _, id := range []string{"good", "bad"} {
		bad, err = s.Create(testCommand(id), FromServer, nil)
		require.NoError(t, err)
	}
	rec := bad.Record()
	rec.State = state
	if state.Ended() || state == StateFinishing {
		rec.Outcome = &Outcome{State: StateFailed}
	}
	require.NoError(t, writeJSON(bad.Path(recordFileName), rec))
	return s, bad
}

// loadBad returns the job bad as the next start reads it, beside an unharmed one.
func loadBad(t *testing.T, s *Store) *Job {
	t.Helper()
	jobs, ignored, err := s.Load()
	require.NoError(t, err)
	require.Empty(t, ignored)
	require.Len(t, jobs, 2)
	for _, j := range jobs {
		if j.ID == "bad" {
			return j
		}
		require.NoError(t, j.Damage)
	}
	t.Fatal("no job bad")
	return nil
}

// harms are ways in which a file of a job becomes unreadable.
var harms = map[string]func(path string) error{
	"is gone":    os.Remove,
	"is empty":   func(path string) error { return os.Truncate(path, 0) },
	"is garbage": func(path string) error { return os.WriteFile(path, []byte("\x00\x00{"), 0o600) },
	"is cut": func(path string) error {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		return os.Truncate(path, info.Size()-8)
	},
	"is too long": func(path string) error {
		return os.WriteFile(path, []byte(`{"x":"`+strings.Repeat("x", maxRecord)), 0o600)
	},
	"is a list":          func(path string) error { return os.WriteFile(path, []byte(`[{"command_id":"x"}]`), 0o600) },
	"is an empty object": func(path string) error { return os.WriteFile(path, []byte("{}"), 0o600) },
	"is null":            func(path string) error { return os.WriteFile(path, []byte("null"), 0o600) },
	"is a long list": func(path string) error {
		return os.WriteFile(path, []byte("[]"+strings.Repeat(" ", maxRecord)), 0o600)
	},
	"is a pipe": func(path string) error { return errors.Join(os.Remove(path), unix.Mkfifo(path, 0o600)) },
	"has other types": func(path string) error {
		return os.WriteFile(path, []byte(`{"version":"1","command":7,"state":{},"accepted_at":[]}`), 0o600)
	},
	"is a directory": func(path string) error {
		if err := os.Remove(path); err != nil {
			return err
		}
		return os.MkdirAll(filepath.Join(path, "x"), 0o700)
	},
}

// TestAnUnreadableFileLeavesAJobToAbandon breaks the files of jobs that had not
// ended: what is left is a job whose run is to be ended and whose outcome is
// known, also for the start after that.
func TestAnUnreadableFileLeavesAJobToAbandon(t *testing.T) {
	t.Parallel()
	for name, harm := range harms {
		for _, files := range [][]string{{commandFileName}, {recordFileName}, {commandFileName, recordFileName}} {
			for _, state := range []State{StateAccepted, StatePreparing, StateRunning} {
				t.Run(strings.Join(files, " and ")+" "+name+" while "+string(state), func(t *testing.T) {
					t.Parallel()
					s, bad := storedJob(t, state)
					for _, file := range files {
						require.NoError(t, harm(bad.Path(file)))
					}
					j := loadBad(t, s)
					require.Error(t, j.Damage)
					require.NotContains(t, j.Damage.Error(), "\n")
					for range 2 {
						rec := j.Record()
						require.True(t, rec.Abandoned())
						require.Equal(t, StateFailed, rec.Outcome.State)
						require.Equal(t, "damaged", rec.Outcome.Class)
						if len(files) == 1 || name == "is cut" {
							require.Equal(t, "t-bad", j.TestID(), "the other file, or what is left, has it")
							require.False(t, rec.AskTest)
						} else {
							require.Empty(t, j.TestID())
							require.True(t, rec.AskTest)
						}
						j = loadBad(t, s)
						require.NoError(t, j.Damage, "it can be read again")
					}
					if name != "is gone" {
						kept, err := filepath.Glob(j.Path(files[0] + damagedSuffix + "*"))
						require.NoError(t, err)
						require.Len(t, kept, 1, "what could not be read is kept")
					}
				})
			}
		}
	}
}

func TestJobsWhoseEndIsKnownKeepIt(t *testing.T) {
	t.Parallel()
	for name, harm := range harms {
		for _, state := range []State{StateFinishing, StateCompleted, StateFailed, StateCancelled} {
			t.Run(name+" while "+string(state), func(t *testing.T) {
				t.Parallel()
				s, bad := storedJob(t, state)
				require.NoError(t, harm(bad.Path(commandFileName)))
				j := loadBad(t, s)
				require.Error(t, j.Damage)
				require.Equal(t, state, j.State())
				require.Equal(t, "t-bad", j.TestID())
			})
		}
	}
}

func TestStatesThatMakeNoSense(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"unknown":           `{"state":"flying"}`,
		"no outcome":        `{"state":"failed"}`,
		"no outcome yet":    `{"state":"finishing"}`,
		"no end":            `{"state":"finishing","outcome":{"state":"running"}}`,
		"no end of its own": `{"state":"completed","outcome":{}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, bad := storedJob(t, StateAccepted)
			require.NoError(t, os.WriteFile(bad.Path(recordFileName), []byte(text), 0o600))
			require.True(t, loadBad(t, s).Record().Abandoned())
		})
	}
}

// TestACommandThatIsNoJobRemovesNoModel has a command of a type that is no job in
// the middle of its work: it would be taken for a cleanup of every copy.
func TestACommandThatIsNoJobRemovesNoModel(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`{"command":{"command_id":"bad"}}`, `{"command":{"command_id":"bad","type":"run_container"}}`} {
		for _, state := range []State{StatePreparing, StateRunning} {
			s, bad := storedJob(t, state)
			require.NoError(t, os.WriteFile(bad.Path(commandFileName), []byte(text), 0o600))
			j := loadBad(t, s)
			require.Error(t, j.Damage)
			require.True(t, j.Record().Abandoned())
			require.Equal(t, "t-bad", j.TestID())
		}
	}
}

// TestACopyOfAJobIsNoJob copies a job's directory: what the copy says about a run
// and a test is the job's own affair.
func TestACopyOfAJobIsNoJob(t *testing.T) {
	t.Parallel()
	s, bad := storedJob(t, StateRunning)
	require.NoError(t, os.CopyFS(bad.Dir+".bak", os.DirFS(bad.Dir)))
	jobs, ignored, err := s.Load()
	require.NoError(t, err)
	require.Len(t, jobs, 2)
	require.Len(t, ignored, 1)
	require.ErrorContains(t, ignored[0], `bad.bak: command.json belongs to command "bad"`)

	require.NoError(t, os.RemoveAll(bad.Dir)) // now it is the job itself, under another name
	jobs, ignored, err = s.Load()
	require.NoError(t, err)
	require.Len(t, jobs, 2)
	require.Empty(t, ignored)
}

// TestACommandThatAnOlderAgentMadeTooLongIsRead reads a command.json of the kind
// that was written for nested payloads, and leaves a short one.
func TestACommandThatAnOlderAgentMadeTooLongIsRead(t *testing.T) {
	t.Parallel()
	s, bad := storedJob(t, StateRunning)
	text, err := os.ReadFile("../../testdata/command-v1.json")
	require.NoError(t, err)
	blanks := bytes.Repeat([]byte(strings.Repeat(" ", 20_000)+"[\n"), 1_000)
	text = bytes.Replace(text, []byte("[\n"), append(blanks, "[\n"...), 1)
	text = bytes.Replace(text, []byte("]"), []byte("]"+strings.Repeat("]", 1_000)), 1)
	text = bytes.Replace(text, []byte(`"command_id": "c"`), []byte(`"command_id": "bad"`), 1)
	require.Greater(t, len(text), maxRecord)
	require.NoError(t, os.WriteFile(bad.Path(commandFileName), text, 0o600))
	j := loadBad(t, s)
	require.NoError(t, j.Damage)
	require.Equal(t, StateRunning, j.State())
	require.False(t, j.Record().Abandoned())
	require.Equal(t, "t", j.TestID())
	require.Equal(t, "/models/<a>", j.Command.Spec.Model)
	require.Equal(t, 2026, j.AcceptedAt.Year())
	info, err := os.Stat(j.Path(commandFileName))
	require.NoError(t, err)
	require.Less(t, info.Size(), int64(1<<10))
}

// FuzzRead puts anything into the files of a job: the next start has a job of
// that name, and the one after that reads the same.
func FuzzRead(f *testing.F) {
	v1, err := os.ReadFile("../../testdata/command-v1.json")
	require.NoError(f, err)
	f.Add(v1, []byte(`{"version":1,"state":"running","test_id":"t"}`))
	f.Add([]byte(`{"command":{"command_id":"j","test_id":"t","type":"cleanup_storage","payload":{"model_path":"a"`), []byte(`{"state":"accepted"}`))
	f.Add([]byte(`{"command":[],"command":{"command_id":"j","payload":[[{}]]}}`), []byte(`{}`))
	f.Add([]byte(`{"command":{"command_id":"other"}}`), []byte(`null`))
	s, err := Open(f.TempDir(), nil)
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, command, rec []byte) {
		dir := filepath.Join(s.dir, "j")
		require.NoError(t, os.Mkdir(dir, 0o700))
		defer os.RemoveAll(dir)
		require.NoError(t, os.WriteFile(filepath.Join(dir, commandFileName), command, 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, recordFileName), rec, 0o600))
		j, err := s.read("j")
		require.NoError(t, err)
		require.True(t, j.State().Valid())
		require.Equal(t, "j", j.ID)
		again, err := s.read("j")
		require.NoError(t, err)
		require.NoError(t, again.Damage)
		require.Equal(t, j.Record().Abandoned(), again.Record().Abandoned())
		require.Equal(t, j.TestID(), again.TestID())
		if j.Damage != nil && j.State() == StateAccepted {
			t.Fatal("a damaged command must not run")
		}
		if j.State().Active() && !j.Command.IsJob() {
			t.Fatal("no other command has begun")
		}
		if o := j.Record().Outcome; o == nil && (j.State() == StateFinishing || j.State().Ended()) || o != nil && !o.State.Ended() {
			t.Fatal("the outcome is not an end")
		}
	})
}
