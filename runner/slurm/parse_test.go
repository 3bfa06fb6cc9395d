package slurm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner"
)

const prefix = "kitt-gpu_1-0123456789ab-"

// The lines are from squeue 22.05, the last as another user could name a job.
func TestParseQueue(t *testing.T) {
	t.Parallel()
	jobs := parseQueue(strings.Join([]string{
		"17|PENDING|Resources|2026-11-29T14:05:00|2026-11-29T11:33:37|1:00:00||" + prefix + "a",
		"18|RUNNING|None|2026-11-29T11:33:40|2026-11-29T11:33:37|UNLIMITED|n1|" + prefix + "b",
		"19|RUNNING|None|2026-11-29T11:33:40|2026-11-29T11:33:37|UNLIMITED|n1|other",
		"20|RUNNING|None|2026-11-29T11:33:40|2026-11-29T11:33:37|UNLIMITED|n1|x|" + prefix + "c",
		"21_4|RUNNING|None|N/A|N/A|UNLIMITED|n1|" + prefix + "d",
		"nonsense", "",
	}, "\n"), prefix)
	require.Equal(t, map[string][]entry{
		prefix + "a": {{
			ID: "17", State: "PENDING", Reason: "Resources", Limit: "1:00:00",
			Start: time.Date(2026, 11, 29, 14, 5, 0, 0, time.UTC), Submitted: time.Date(2026, 11, 29, 11, 33, 37, 0, time.UTC),
		}},
		prefix + "b": {{
			ID: "18", State: "RUNNING", Limit: "UNLIMITED", Nodes: "n1",
			Start: time.Date(2026, 11, 29, 11, 33, 40, 0, time.UTC), Submitted: time.Date(2026, 11, 29, 11, 33, 37, 0, time.UTC),
		}},
	}, jobs)
}

// Owners whose names begin alike have no job in common.
func TestOwnersDiffer(t *testing.T) {
	t.Parallel()
	a, b := prefixOf("a", "/s"), prefixOf("a-b", "/s")
	require.False(t, strings.HasPrefix(a, b) || strings.HasPrefix(b, a), "%s %s", a, b)
	require.NotEqual(t, a, prefixOf("a", "/t"), "another shared directory is another agent")
	require.Equal(t, a, prefixOf("a", "/s/"))
	require.Less(t, len(prefixOf(strings.Repeat("ü|", 100), "/s")), 60)
}

func TestParseAccounting(t *testing.T) {
	t.Parallel()
	name := prefix + "a"
	end, found := parseAccounting("17|CANCELLED by 1000|0:15|None|n1|2026-11-29T11:33:40|"+name+"\n18|PENDING|0:0|None|None assigned|Unknown|"+name+"\n", name)
	require.True(t, found)
	require.Equal(t, ending{ID: "17", State: "CANCELLED", By: "1000", Code: "0:15", Nodes: "n1", Start: time.Date(2026, 11, 29, 11, 33, 40, 0, time.UTC)}, end)
	_, found = parseAccounting("18|RUNNING|0:0|None|n1|Unknown|"+name+"\n19|FAILED|1:0|None|n1|Unknown|other\n", name)
	require.False(t, found, "one that runs has no end, and another's is not ours")
}

func TestParseController(t *testing.T) {
	t.Parallel()
	text := "JobId=3 JobName=s3 UserId=root(0) JobState=FAILED Reason=NonZeroExitCode ExitCode=2:0 StartTime=2026-11-29T11:33:40 NodeList=n1 Command=/dev/stdin x"
	end, found := parseController(text, "s3")
	require.True(t, found)
	require.Equal(t, "FAILED", end.State)
	require.Equal(t, "2:0", end.Code)
	_, found = parseController(text, "other")
	require.False(t, found, "an ID that was used again is another job's")
}

// Each way in which Slurm ends a job has a class and a sentence that names the job.
func TestEndings(t *testing.T) {
	t.Parallel()
	for state, class := range map[string]string{
		"TIMEOUT": ClassTimeLimit, "DEADLINE": ClassTimeLimit, "OUT_OF_MEMORY": runner.ClassOOM, "NODE_FAIL": ClassNode,
		"BOOT_FAIL": ClassNode, "PREEMPTED": ClassPreempted, "CANCELLED": ClassCancelled, "REVOKED": ClassCancelled, "LAUNCH_FAILED": ClassNode,
	} {
		err := ending{ID: "17", State: state, Nodes: "n1"}.err(true, "")
		require.ErrorContains(t, err, "job 17 on n1")
		e, ok := errors.AsType[*runner.Error](err)
		require.True(t, ok)
		require.Equal(t, class, e.Class, state)

		exit := &runner.ExitError{Code: 143, Signal: "SIGTERM"}
		err = ending{ID: "17", State: state}.because(exit)
		require.ErrorIs(t, err, error(exit))
		require.ErrorContains(t, err, "job 17")
	}
	require.ErrorContains(t, ending{ID: "17", State: "FAILED", Code: "0:53"}.err(false, ""), "does not see the job's directory")
	require.ErrorIs(t, ending{ID: "17", State: "COMPLETED", Code: "0:0"}.err(true, ""), runner.ErrLost, "without exit.json it is no success")
	require.ErrorIs(t, ending{}.err(true, "17"), runner.ErrLost)
	require.ErrorIs(t, ending{}.err(false, "17"), runner.ErrLost)
	require.ErrorContains(t, ending{ID: "17", State: "FAILED", Code: "2:0"}.err(false, ""), "before the benchmark began")
	require.EqualError(t, ending{ID: "17", State: "FAILED"}.because(&runner.ExitError{Code: 143, Signal: "SIGTERM"}),
		"Exit 143: the benchmark was killed by SIGTERM: Slurm has job 17 as failed")
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	err := refused(&commandError{"sbatch", "sbatch: error: Batch job submission failed: Invalid partition name specified", errors.New("exit status 1")})
	require.ErrorIs(t, err, errRefused)
	require.ErrorContains(t, err, "set slurm.partition")
	for _, unknown := range []string{
		"sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
		"sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
		"sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received",
		"slurm_submit_batch_job: slurm controller is in standby mode",
	} {
		require.NoError(t, refused(&commandError{"sbatch", unknown, errors.New("exit status 1")}), unknown)
	}
	require.NoError(t, refused(&commandError{"sbatch", "Invalid partition name specified", errDeadline}), "it was killed at its deadline")
}

func TestArgs(t *testing.T) {
	t.Parallel()
	require.NoError(t, CheckArgs([]string{"--mem=10G", "--constraint=a&b", "--contiguous"}))
	for _, arg := range []string{"--wrap=sh", "-p", "--requeue", "--uid=0", "--output=/etc/passwd", "mem=1", "--comment=a\nb", "--export=NONE", "--mem 1"} {
		require.Error(t, CheckArgs([]string{arg}), arg)
	}
}

func TestCommandLines(t *testing.T) {
	t.Parallel()
	require.NoError(t, CheckCommand([]string{"podman", "run", "-v", "{results}:{results}", "{image}", "kitt", "{args}"}))
	for _, line := range [][]string{nil, {""}, {"kitt", "{secret}"}, {"kitt", "x{args}"}, {"kitt\n"}} {
		require.Error(t, CheckCommand(line), line)
	}
	job := runner.Job{ID: "1", Model: "{results}", Engine: "vllm", Suite: "quick", ResultsDir: "/r", Image: "i"}
	require.Equal(t, []string{"run", "{results}", "i"}, render([]string{"run", "{model}", "{image}"}, job), "values are not looked at again")
	job.GPUs, job.Model = []string{"0", "2"}, "/models/qwen.gguf"
	require.Equal(t, []string{`"device=0,2"`, "--device=nvidia.com/gpu=0", "--device=nvidia.com/gpu=2", "--volume=/r:/r", "--volume=/models:/models:ro"},
		render([]string{`"device={gpus}"`, "{devices}", "{volumes}"}, job))
	job.Model = "org/model"
	require.Equal(t, []string{"--bind=/r:/r"}, render([]string{"{binds}"}, job), "an identifier is nothing to mount")
	require.NoError(t, checkScript("/shared/bin/kitt", "run-on-node"))
	for _, program := range []string{"relative", "/with blank", "/" + strings.Repeat("x", 127)} {
		require.ErrorIs(t, checkScript(program, ""), runner.ErrUnavailable)
	}
}

// A queue that says the same thing again is told once.
func TestTeller(t *testing.T) {
	t.Parallel()
	var told teller
	pending := entry{ID: "17", State: "PENDING", Reason: "Resources", Start: time.Date(2026, 11, 29, 14, 5, 0, 0, time.Local)}
	require.Equal(t, "waiting in Slurm's queue as job 17: Resources; expected start 2026-11-29 14:05", told.state(pending, true))
	require.Empty(t, told.state(pending, true))
	pending.Start = pending.Start.Add(time.Minute)
	require.Empty(t, told.state(pending, true), "a minute is no news")
	pending.Start = pending.Start.Add(time.Hour)
	require.Contains(t, told.state(pending, true), "15:06")
	require.Contains(t, told.state(entry{ID: "17", State: "RUNNING", Nodes: "n1"}, true), "on n1")
	require.Contains(t, told.slurm(errors.New("timed out")), "timed out")
	require.Empty(t, told.slurm(errors.New("timed out again")))
	require.Equal(t, "Slurm answers again", told.slurm(nil))
}

// On many clusters the path of a home directory leads through a link.
func TestTheSharedDirectoryMayBeALink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "real"), 0o700))
	require.NoError(t, os.Symlink("real", filepath.Join(dir, "home")))
	require.True(t, isShared(filepath.Join(dir, "home"), filepath.Join(dir, "real/jobs/1")))
	require.True(t, isShared(filepath.Join(dir, "real")+"/", filepath.Join(dir, "real/jobs/1")))
	require.False(t, isShared(filepath.Join(dir, "home"), filepath.Join(dir, "other/1")))
	require.False(t, isShared("/absent", dir))
}

func TestSettingsAreChecked(t *testing.T) {
	t.Parallel()
	_, err := New(Config{SharedDir: "rel", Partition: "a b", GPUs: -1, Poll: 1, Args: []string{"--wrap=x"}, Fetch: []string{""}, Time: -1})
	for _, want := range []string{"Owner", "SharedDir", "Wrapper", "Partition", "GPUs", "Poll", "Args", "Fetch", "Time"} {
		require.ErrorContains(t, err, want)
	}
}

// The first two lines are from sinfo 22.05, the others from its manual and others' clusters.
func TestParseNodes(t *testing.T) {
	t.Parallel()
	require.Equal(t, []Node{
		{Name: "n1", State: "idle", CPUs: 64, MemoryBytes: 1000 << 20, GPUs: 8, GPUType: "h200"},
		{Name: "n2", State: "down*", CPUs: 64, MemoryBytes: 1000 << 20, GPUs: 8, GPUType: "h200"},
	}, parseNodes("n1|idle|64|1000|gpu:h200:8\nn2|down*|64|1000|gpu:h200:8(S:0-1)\nn1|idle|64|1000|gpu:h200:8\nx|y\n"))
	for text, want := range map[string]struct {
		kind string
		n    int
	}{
		"(null)": {"", 0}, "gpu:8": {"", 8}, "gpu": {"", 1}, "gpu:a100:4(S:0,2),mps:100": {"a100", 4}, "mps:100,gpu:a:2,gpu:b:3": {"a", 5}, "gpu:a100": {"a100", 1},
	} {
		kind, n := parseGres(text)
		require.Equal(t, want.kind, kind, text)
		require.Equal(t, want.n, n, text)
	}
	require.Equal(t, map[string]string{"n1": "x86_64", "n2": "aarch64"}, parseArches("NodeName=n1 Arch=x86_64 CPUTot=64\nNodeName=n2 Arch=aarch64\n"))
}

func TestParseLimit(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"1:00": time.Minute, "1:00:00": time.Hour, "2-03:00:00": 51 * time.Hour, "UNLIMITED": 0, "": 0, "1:2:3:4": 0, "-1:00": 0, "99999999999:00": 0,
	} {
		require.Equal(t, want, parseLimit(text), text)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("17|PENDING|Resources|2026-11-29T14:05:00|N/A|1:00:00||" + prefix + "a")
	f.Add("17|CANCELLED by 0|0:15|None|n1|Unknown|" + prefix + "a")
	f.Add("JobId=3 JobName=" + prefix + "a JobState=FAILED ExitCode=2:0")
	f.Fuzz(func(t *testing.T, text string) {
		for name, entries := range parseQueue(text, prefix) {
			for _, e := range entries {
				if parseLimit(e.Limit) < 0 {
					t.Fatalf("%q gave %q %+v", text, name, e)
				}
				if !strings.HasPrefix(name, prefix) || !isID(e.ID) {
					t.Fatalf("%q gave %q %+v", text, name, e)
				}
			}
		}
		for _, n := range parseNodes(text) {
			if n.Name == "" || n.GPUs < 0 || n.MemoryBytes < 0 {
				t.Fatalf("%q gave %+v", text, n)
			}
		}
		_ = parseArches(text)
		if end, found := parseAccounting(text, prefix+"a"); found && (active[end.State] || !isID(end.ID)) {
			t.Fatalf("%q gave %+v", text, end)
		}
		if end, found := parseController(text, prefix+"a"); found && active[end.State] {
			t.Fatalf("%q gave %+v", text, end)
		}
	})
}

func noWrapper(context.Context) (program, argument string, err error) {
	return "", "", errors.New("no program for nodes")
}

// What a command of Slurm's prints on several lines is one line of blanks in an error.
func TestACommandsErrorIsOneLine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script := "#!/bin/sh\nprintf 'sinfo: error: no host\\nsinfo: fatal: no \\033[31mconfig\\n' >&2\nexit 1\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "sinfo"), []byte(script), 0o700))
	_, err := newCommands([]string{"PATH=" + dir}, time.Minute).run(t.Context(), "", "sinfo")
	require.ErrorContains(t, err, "sinfo: error: no host sinfo: fatal: no [31mconfig")
}
