package docker_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner"
)

// TestWhoABenchmarkIs runs one as each kind of agent in each kind of image: it reads a
// model that only the agent's user can read, writes to its results and its home, and
// reaches the engine.
func TestWhoABenchmarkIs(t *testing.T) {
	needEngine(t)
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can be several users")
	}
	group, err := user.LookupGroup("docker")
	require.NoError(t, err)
	gid, err := strconv.Atoi(group.Gid)
	require.NoError(t, err)
	exe := public(t)
	for _, tt := range []struct {
		agent uint32
		image string
		want  string // uid, gid and home; empty where it can't work
	}{
		{0, "", "0 0 /"},
		{0, "1234", ""},
		{1000, "", "1000 1000 /run/kitt-home"},
		{1000, "1000", "1000 0 /"},
		{1000, "1234", ""},
	} {
		t.Run(fmt.Sprintf("agent %d, image %q", tt.agent, tt.image), func(t *testing.T) {
			t.Parallel()
			name := "kitt-agent-test-user:" + strings.ToLower(rand.Text())[:10]
			require.NoError(t, engine.BuildScriptKitt(t.Context(), name, tt.image))
			t.Cleanup(func() { require.NoError(t, engine.Remove(context.Background(), name)) })
			job := jobOf(t, int(tt.agent))
			t.Cleanup(func() { require.NoError(t, removeContainers(context.Background(), name)) })
			text, code := driveAs(t, exe, drive{Job: job, Image: name, Owner: "test-" + t.Name()}, tt.agent, uint32(gid))
			if tt.want == "" {
				require.NotContains(t, text, "20.10", "it can't read the script")
				require.NotZero(t, code)
				return
			}
			require.Zero(t, code, text)
			if tt.want != "1000 0 /" { // an image with a user of its own has to give it a home
				require.NotContains(t, text, "failed", text)
			}
			require.Contains(t, text, "\n"+tt.want+"\n", text)
			info, err := os.Stat(filepath.Join(job.ResultsDir, "written"))
			require.NoError(t, err)
			require.Equal(t, tt.agent, info.Sys().(*syscall.Stat_t).Uid, "the agent can remove it")
		})
	}
}

// public returns a copy of the test's own program that any user can start.
func public(t *testing.T) string {
	dir, err := os.MkdirTemp("", "kitt-public")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	self, err := os.ReadFile("/proc/self/exe")
	require.NoError(t, err)
	path := filepath.Join(dir, "drive")
	require.NoError(t, os.WriteFile(path, self, 0o755))
	return path
}

// jobOf returns a job whose files are those of a user and of nobody else.
func jobOf(t *testing.T, uid int) runner.Job {
	root, err := os.MkdirTemp("", "kitt-user")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(root)) })
	job := runner.Job{
		ID: strings.ToLower(rand.Text()), Dir: root + "/job", ResultsDir: root + "/results", Model: root + "/model", Engine: "ollama", Suite: "quick",
	}
	for _, dir := range []string{job.Dir, job.ResultsDir, job.Model} {
		require.NoError(t, os.Mkdir(dir, 0o700))
	}
	script := "docker info --format {{.ServerVersion}}\nengine id\nwrite\n"
	require.NoError(t, os.WriteFile(filepath.Join(job.Model, "script"), []byte(script), 0o600))
	require.NoError(t, filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, uid, uid)
	}))
	return job
}

// driveAs runs a job by a program of another user, and returns what it printed and the
// program's status.
func driveAs(t *testing.T, exe string, d drive, uid, group uint32) (string, int) {
	d.Supervisor, d.Proxy = superviseProgram, proxyProgram
	spec, err := json.Marshal(d)
	require.NoError(t, err)
	cmd := exec.Command(exe, "drive", string(spec))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid, Groups: []uint32{group}}}
	_ = cmd.Run() // its status says how it went
	text, _, _, err := d.read()
	require.NoError(t, err)
	return text, cmd.ProcessState.ExitCode()
}
