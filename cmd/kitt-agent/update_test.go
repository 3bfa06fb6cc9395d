package main

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/selfupdate/selfupdatetest"
)

// updates are programs of several versions to update to.
type updates struct {
	t    *testing.T
	prog program // version v1.0.0
	next []byte  // version v1.1.0
	home string
	vars []string // more of the environment
}

// TestUpdates builds the program as two versions and updates one to the other.
func TestUpdates(t *testing.T) {
	t.Parallel()
	bin := buildProgram(t).bin
	versions := t.TempDir()
	for _, version := range []string{"v1.0.0", "v1.1.0"} {
		out, err := exec.Command("go", "build", "-ldflags", "-X main.version="+version, "-o", filepath.Join(versions, version), ".").CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	next, err := os.ReadFile(filepath.Join(versions, "v1.1.0"))
	require.NoError(t, err)
	for name, test := range map[string]func(*testing.T, *updates){
		"there and back":  testUpdate,
		"refusals":        testUpdateRefuses,
		"from the server": testUpdateFromTheServer,
		"under load":      testUpdateUnderLoad,
		"killed":          testUpdateKilled,
		"two at once":     testTwoUpdatesAtOnce,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := &updates{t: t, next: next, home: t.TempDir()}
			u.prog = program{path: filepath.Join(t.TempDir(), "kitt-agent"), bin: bin}
			require.NoError(t, os.Link(filepath.Join(versions, "v1.0.0"), u.prog.path))
			test(t, u)
		})
	}
}

// broken returns a program that answers `version` and does the given command of
// the shell's when it is to start.
func broken(start string) []byte {
	return fmt.Appendf(nil, "#!/bin/sh\n[ \"$1\" = version ] && echo '{\"version\":\"v1.1.0\",\"os\":\"linux\",\"arch\":\"%s\"}' && exit\n%s\n", runtime.GOARCH, start)
}

// pack writes a package with that program to a file.
func (u *updates) pack(version string, prog []byte, key ed25519.PrivateKey) string {
	u.t.Helper()
	p := selfupdatetest.Package{Version: version, Programs: map[string][]byte{"linux_" + runtime.GOARCH: prog}, Key: key}
	return u.file(p.Bytes())
}

func (u *updates) file(data []byte) string {
	u.t.Helper()
	path := filepath.Join(u.t.TempDir(), "kitt-agent.tar.gz")
	require.NoError(u.t, os.WriteFile(path, data, 0o600))
	return path
}

func (u *updates) command(args ...string) *exec.Cmd {
	cmd := exec.Command(u.prog.path, args...)
	cmd.Env = append(append(os.Environ(), "KITT_HOME="+u.home), u.vars...)
	return cmd
}

// run runs the installed program.
func (u *updates) run(args ...string) outcome {
	u.t.Helper()
	cmd := u.command(args...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err != nil {
		require.IsType(u.t, &exec.ExitError{}, err)
	}
	return outcome{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// installed checks which version is installed, and that nothing unfinished is
// left beside it.
func (u *updates) installed(version string) {
	u.t.Helper()
	got := u.run("version", "--json")
	var b buildInfo
	require.NoError(u.t, json.Unmarshal([]byte(got.out), &b), got.err)
	require.Equal(u.t, version, b.Version)
	left, err := filepath.Glob(filepath.Join(filepath.Dir(u.prog.path), ".kitt-agent*"))
	require.NoError(u.t, err)
	require.Empty(u.t, left)
}

func testUpdate(t *testing.T, u *updates) {
	good := u.pack("v1.1.0", u.next, nil)

	got := u.run("update", "--check", "--from", good)
	require.Equal(t, exitAvailable, got.code, got.err)
	require.Equal(t, "v1.0.0 can be updated to v1.1.0\n", got.out)
	u.installed("v1.0.0")

	got = u.run("update", "--rollback")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "no program from before an update")

	got = u.run("update", "--from", good, "--restart")
	require.Equal(t, exitOK, got.code, got.err)
	require.Contains(t, got.out, "is v1.1.0 now")
	require.Contains(t, got.err, "No agent is running")
	u.installed("v1.1.0")

	got = u.run("update", "--from", good)
	require.Equal(t, exitOK, got.code, got.err)
	require.Contains(t, got.out, "v1.1.0 is installed already")
	got = u.run("update", "--check", "--from", good, "--json")
	require.Equal(t, exitOK, got.code, got.err)
	require.JSONEq(t, `{"installed":"v1.1.0","offered":"v1.1.0","available":false,"signed":false,"updated":false,"restarted":false}`, got.out)

	old, err := os.ReadFile(u.prog.path + ".previous")
	require.NoError(t, err)
	got = u.run("update", "--rollback")
	require.Equal(t, exitOK, got.code, got.err)
	u.installed("v1.0.0")
	got = u.run("update", "--rollback")
	require.Equal(t, exitOK, got.code, got.err)
	u.installed("v1.1.0")

	older := u.pack("v1.0.0", old, nil)
	got = u.run("update", "--from", older)
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "version v1.0.0 is older than v1.1.0, which is installed; to go back to it all the same: kitt-agent update --force")
	u.installed("v1.1.0")
	got = u.run("update", "--from", older, "--force")
	require.Equal(t, exitOK, got.code, got.err)
	u.installed("v1.0.0")
}

func testUpdateRefuses(t *testing.T, u *updates) {
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	_, stranger, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	good := u.pack("v1.1.0", u.next, private)
	whole, err := os.ReadFile(good)
	require.NoError(t, err)
	tampered := selfupdatetest.Package{Version: "v1.1.0", Programs: map[string][]byte{"linux_" + runtime.GOARCH: u.next}}.Files()
	tampered[2].Data = broken("exit 0")
	sdist := u.file(selfupdatetest.Archive(selfupdatetest.File{Name: "kitt_agent-1.7.0/PKG-INFO", Data: []byte("Name: kitt-agent\n")}))
	key := "KITT_UPDATE_PUBLIC_KEY=" + base64.StdEncoding.EncodeToString(public)
	tests := []struct {
		name string
		vars []string
		args []string
		want string
	}{
		{"a tampered program", nil, []string{"--from", u.file(selfupdatetest.Archive(tampered...))}, "not the one of its SHA256SUMS"},
		{"half a package", nil, []string{"--from", u.file(whole[:len(whole)/2])}, "unexpected EOF"},
		{"no signature", []string{key}, []string{"--from", u.pack("v1.1.0", u.next, nil)}, "it has no signature"},
		{"a stranger's signature", []string{key}, []string{"--from", u.pack("v1.1.0", u.next, stranger)}, "not signed with the key"},
		{"an sdist", nil, []string{"--from", sdist}, "package of the Python agent"},
		{"an sdist, checked", nil, []string{"--check", "--from", sdist}, "package of the Python agent"},
		{"a program that fails", nil, []string{"--from", u.pack("v1.1.0", []byte("#!/bin/sh\necho no >&2; exit 1\n"), nil)}, `does not run on this machine: exit status 1: "no"`},
		{"a program of another version", nil, []string{"--from", u.pack("v1.2.0", u.next, nil)}, "says that it is v1.2.0, and its program that it is v1.1.0"},
		{"another digest", nil, []string{"--from", good, "--sha256", strings.Repeat("0", 64)}, "the package is another one"},
		{"plain http", nil, []string{"--from", "http://127.0.0.1:1/kitt-agent.tar.gz"}, "needs --sha256"},
		{"no server", nil, nil, "no server is configured"},
		{"nothing there", nil, []string{"--from", "/nonexistent/package"}, "no such file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u.vars = tt.vars
			got := u.run(append([]string{"update"}, tt.args...)...)
			require.NotZero(t, got.code, got.out)
			require.NotEqual(t, exitAvailable, got.code)
			require.Contains(t, got.err, tt.want)
			u.installed("v1.0.0")
		})
	}
	u.vars = []string{key}
	got := u.run("update", "--from", good, "--sha256", fmt.Sprintf("%x", sha256.Sum256(whole)), "--json")
	require.Equal(t, exitOK, got.code, got.err)
	require.Contains(t, got.out, `"signed": true`)
	u.installed("v1.1.0")
}

// The server as it is today offers the Python agent's package; one that knows
// this agent offers a package of ours.
func testUpdateFromTheServer(t *testing.T, u *updates) {
	data, err := os.ReadFile(u.pack("v1.1.0", u.next, nil))
	require.NoError(t, err)
	sdist := selfupdatetest.Archive(selfupdatetest.File{Name: "kitt_agent-1.7.0/PKG-INFO", Data: []byte("Name: kitt-agent\n")})
	for _, tt := range []struct {
		data []byte
		want string
		code int
	}{
		{sdist, "package of the Python agent", exitFailure},
		{nil, "Failed to build agent package", exitFailure},
		{data, "", exitOK},
	} {
		server, err := kittapitest.NewServer(kittapitest.Config{Package: tt.data})
		require.NoError(t, err)
		sum := sha256.Sum256(tt.data)
		unchecked := u.run("update", "--server", server.URL)
		require.Equal(t, exitUsage, unchecked.code, "anybody on the way could have written what comes over http")
		require.Contains(t, unchecked.err, "needs --sha256, or update.public_key")
		got := u.run("update", "--server", server.URL, "--sha256", hex.EncodeToString(sum[:]))
		server.Close()
		require.Equal(t, tt.code, got.code, got.err)
		require.Contains(t, got.err, tt.want)
	}
	u.installed("v1.1.0")
}

// An agent that stays is one process for each start of it.
func (u *updates) agent(server *kittapitest.Server) *daemon {
	u.t.Helper()
	server.AddAgent("chaos")
	d := newDaemon(u.t, u.prog, server.URL, "process")
	u.home = d.home
	u.vars = []string{"PATH=" + u.prog.bin + ":" + os.Getenv("PATH")}
	d.start()
	require.Eventually(u.t, func() bool { return u.run("status").code == exitOK }, 30*time.Second, 50*time.Millisecond, "%s", &d.out)
	u.t.Cleanup(func() { u.run("stop") })
	return d
}

// requireAllOnce checks that a test has ended well, with each line once and in
// order and one result.
func requireAllOnce(t *testing.T, server *kittapitest.Server, id string, lines int, log string) {
	t.Helper()
	row, _ := server.Test(id)
	require.Equal(t, []string{"queued", "dispatched", "running", "completed"}, row.History, "%s\n%s", row.Error, log)
	got := numbersOf(server.Lines(id))
	require.Len(t, got, lines)
	for i, n := range got {
		require.Equal(t, i, n)
	}
	require.Len(t, server.Results(), 1)
}

func (u *updates) log() string {
	text, _ := os.ReadFile(filepath.Join(u.home, "logs", "agent.log"))
	return string(text)
}

// While a benchmark logs a line every 50 ms the agent is updated, to broken
// versions and to a good one.
func testUpdateUnderLoad(t *testing.T, u *updates) {
	server, err := kittapitest.NewServer(kittapitest.Config{})
	require.NoError(t, err)
	defer server.Close()
	d := u.agent(server)
	const lines = 600
	id, _, err := server.Launch("chaos", fmt.Sprintf("fake:lines.%d_delay.50ms", lines))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	require.NoError(t, waitForLines(ctx, server, id, 20), tail(d))

	for name, start := range map[string]string{"it ended with exit code 1": "exit 1", "not healthy in time": "exec sleep 300"} {
		got := u.run("update", "--restart", "--timeout", "8s", "--from", u.pack("v1.1.0", broken(start), nil))
		require.Equal(t, exitFailure, got.code, got.out)
		require.Contains(t, got.err, "the update was undone, and the agent runs the version from before", name)
		require.Contains(t, got.err, name)
		u.installed("v1.0.0")
		require.Contains(t, u.run("status", "--json").out, `"version": "v1.0.0"`)
	}

	row, _ := server.Test(id)
	require.Equal(t, "running", row.Status, "the update is to happen under load")
	got := u.run("update", "--restart", "--from", u.pack("v1.1.0", u.next, nil))
	require.Equal(t, exitOK, got.code, "%s\n%s", got.err, u.log())
	require.Contains(t, got.out, "The agent was restarted and runs v1.1.0.")
	u.installed("v1.1.0")
	require.Contains(t, u.run("status", "--json").out, `"version": "v1.1.0"`)

	require.NoError(t, server.WaitForEnd(ctx, id), "%s", u.log())
	requireAllOnce(t, server, id, lines, u.log())
	require.Equal(t, exitOK, u.run("stop").code)
	require.Eventually(t, func() bool { return len(server.Results()) == 1 }, 10*time.Second, 50*time.Millisecond)
}

// update is killed at many moments: a whole program always stands, and the next
// update works.
func testUpdateKilled(t *testing.T, u *updates) {
	good := u.pack("v1.1.0", u.next, nil)
	begun := time.Now()
	require.Equal(t, exitOK, u.run("update", "--from", good).code)
	whole := time.Since(begun)
	const moments = 10
	for i := range moments {
		cmd := u.command("update", "--from", good, "--force")
		require.NoError(t, cmd.Start())
		pause(whole * time.Duration(i) / moments)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		got := u.run("version")
		require.Equal(t, exitOK, got.code, got.err)
		require.Contains(t, got.out, "v1.")
	}
	got := u.run("update", "--from", good, "--force")
	require.Equal(t, exitOK, got.code, got.err)
	u.installed("v1.1.0")
}

func testTwoUpdatesAtOnce(t *testing.T, u *updates) {
	slow := fmt.Appendf(nil, "#!/bin/sh\ntouch %s/probed; while [ ! -e %[1]s/go ]; do sleep 0.05; done; echo '{\"version\":\"v1.1.0\",\"os\":\"linux\",\"arch\":\"%s\"}'\n", u.home, runtime.GOARCH)
	second := u.pack("v1.1.0", u.next, nil) // first, since the slow one is waited for only so long
	first := u.command("update", "--from", u.pack("v1.1.0", slow, nil))
	require.NoError(t, first.Start())
	require.Eventually(t, func() bool {
		_, err := os.Stat(filepath.Join(u.home, "probed"))
		return err == nil
	}, 20*time.Second, 10*time.Millisecond)
	got := u.run("update", "--from", second)
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "another update is at work")
	require.NoError(t, os.WriteFile(filepath.Join(u.home, "go"), nil, 0o600))
	require.NoError(t, first.Wait())
	u.installed("v1.1.0")
}

func TestUpdateUsage(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	for _, args := range [][]string{
		{"--rollback", "--check"}, {"--check", "--restart"}, {"--sha256", "abc"}, {"--timeout", "0s"}, {"extra"},
	} {
		got := m.run(append([]string{"update"}, args...)...)
		require.Equal(t, exitUsage, got.code, "%v", args)
		require.Contains(t, got.err, "try: kitt-agent update")
	}
}

func TestUpdateFromAServerThatCannotBuildItsPackage(t *testing.T) {
	t.Parallel()
	server, err := kittapitest.NewServer(kittapitest.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	got := newMachine(t).run("update", "--server", server.URL, "--sha256", strings.Repeat("0", 64))
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "Failed to build agent package; a package from elsewhere is taken with --from")
}
