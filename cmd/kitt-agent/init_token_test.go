package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/kittapi"
	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
)

// register registers an agent that has or hasn't a token.
func register(t *testing.T, server *kittapitest.Server, name, token string) error {
	t.Helper()
	client, err := kittapi.New(kittapi.Config{URL: server.URL, Token: agent.Secret(token)})
	require.NoError(t, err)
	_, err = client.Register(t.Context(), agent.Registration{Name: name})
	return err
}

// token returns the token in the machine's agent.yaml.
func (m *machine) token() string {
	m.t.Helper()
	file, err := config.Open(filepath.Join(m.home, "agent.yaml"))
	require.NoError(m.t, err)
	cfg, _, err := file.Check(func(name string) string { return m.vars[name] })
	require.NoError(m.t, err)
	return cfg.Token.Reveal()
}

// snapshot returns what is in the machine's home: each file's content and time.
func (m *machine) snapshot() map[string]string {
	m.t.Helper()
	files := map[string]string{}
	require.NoError(m.t, filepath.WalkDir(m.home, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		files[path] = fmt.Sprint(info.ModTime().UnixNano(), " ", string(text))
		return err
	}))
	return files
}

// A playbook passes on a variable that is not set.
func TestInitRemovesNoToken(t *testing.T) {
	t.Parallel()
	server := controlPlane(t, kittapitest.Config{})
	m := newMachine(t)
	require.Zero(t, m.run("init", "--server", server.URL, "--name", "a").code)
	before := m.token()
	require.NotEmpty(t, before)
	for _, empty := range []string{"", " "} {
		got := m.run("init", "--token", empty)
		require.Equal(t, exitUsage, got.code)
		require.Contains(t, got.err, "--token is empty")
		require.Equal(t, before, m.token())
	}
	m.vars["KITT_TOKEN"] = ""
	require.Zero(t, m.run("init", "--server", server.URL).code)
	require.Equal(t, before, m.token())
}

// A playbook runs its commands again and again.
func TestInitTwiceChangesNothing(t *testing.T) {
	t.Parallel()
	ca, dir := newCA(t)
	server := controlPlane(t, kittapitest.Config{})
	secure := mutual(t, ca, true)
	for name, args := range map[string][]string{
		"a new agent":          {"--server", server.URL, "--name", "a"},
		"that asks for tokens": {"--server", server.URL, "--name", "b", "--new-token"},
		"with settings":        {"--server", server.URL, "--name", "c", "--port", "9000", "--model-dir", "/data/m", "--share-mount", "/mnt/m"},
		"with a signature":     {"--server", secure, "--name", "d", "--ca-cert", filepath.Join(dir, "ca.pem"), "--ca-key", filepath.Join(dir, "ca-key.pem")},
		"with a request":       {"--server", secure, "--name", "e", "--ca", filepath.Join(dir, "ca.pem")},
		"the server is away":   {"--server", "http://127.0.0.1:1", "--name", "f", "--new-token"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			got := m.run(append([]string{"init"}, args...)...)
			require.Equal(t, exitOK, got.code, got.err)
			require.Contains(t, got.out, "agent.yaml written")
			if name != "with a request" { // which shows no certificate, so the server doesn't say what it knows
				require.Len(t, m.token(), 64)
			}
			before := m.snapshot()
			for range 2 {
				got = m.run(append([]string{"init"}, args...)...)
				require.Equal(t, exitOK, got.code, got.err)
				require.Contains(t, got.out, "agent.yaml unchanged")
				require.Equal(t, before, m.snapshot())
			}
			// Also once the agent has registered.
			if args[1] == server.URL {
				require.NoError(t, register(t, server, args[3], m.token()))
			}
			got = m.run(append([]string{"init", "--json"}, args...)...)
			require.Equal(t, exitOK, got.code, got.err)
			require.Equal(t, before, m.snapshot())
			var report initReport
			require.NoError(t, json.Unmarshal([]byte(got.out), &report))
			require.False(t, report.Changed)
			require.False(t, report.Created)
			if args[1] == server.URL {
				require.Equal(t, args[len(args)-1] == "--new-token", len(report.Warnings) > 0, "%q", report.Warnings)
			}
		})
	}
}

// The server takes no other token of an agent that it knows.
func TestInitMakesNoTokenThatTheServerRefuses(t *testing.T) {
	t.Parallel()
	server := controlPlane(t, kittapitest.Config{})
	require.NoError(t, register(t, server, "locked", strings.Repeat("a", 64)))
	require.NoError(t, register(t, server, "open", ""))
	rotate := `POST ` + server.URL + `/api/v1/agents/[0-9a-f]{16}/rotate-token`

	m := newMachine(t)
	got := m.run("init", "--server", server.URL, "--name", "locked", "--new-token")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, `the server has a token for agent "locked" and would refuse a new one`)
	require.Regexp(t, rotate, got.err)
	require.NoFileExists(t, filepath.Join(m.home, "agent.yaml"))

	got = m.run("init", "--server", server.URL, "--name", "locked")
	require.Equal(t, exitOK, got.code, got.err)
	require.Empty(t, m.token())
	require.Contains(t, got.err, `agent.yaml has none, so the server refuses this agent`)
	require.Regexp(t, rotate, got.err)
	before := m.snapshot()
	require.Equal(t, exitFailure, m.run("init", "--new-token").code)
	require.Equal(t, before, m.snapshot())

	got = m.run("init", "--server", server.URL, "--name", "locked", "--new-token", "--force")
	require.Equal(t, exitOK, got.code, got.err)
	require.Len(t, m.token(), 64)
	require.Contains(t, got.err, `the server has another token for agent "locked" than agent.yaml`)
	require.Error(t, register(t, server, "locked", m.token()))

	m = newMachine(t)
	got = m.run("init", "--server", server.URL, "--name", "open")
	require.Equal(t, exitOK, got.code, got.err)
	require.Empty(t, m.token())
	trusts := `the server knows agent "open" without a token and still trusts anybody who uses that name`
	require.Contains(t, got.err, trusts)
	got = m.run("init", "--new-token")
	require.Equal(t, exitOK, got.code, got.err)
	require.Len(t, m.token(), 64, "callers of the agent's own API need it")
	require.Contains(t, got.err, trusts)
	require.NoError(t, register(t, server, "open", m.token()))
	require.Contains(t, m.run("init").err, trusts, "it still does")
}

func TestInitKeepsTheToken(t *testing.T) {
	t.Parallel()
	server := controlPlane(t, kittapitest.Config{})
	m := newMachine(t)
	require.Equal(t, exitOK, m.run("init", "--server", server.URL, "--name", "gpu-1").code)
	first := m.token()
	require.NoError(t, register(t, server, "gpu-1", first))

	got := m.run("init", "--new-token")
	require.Equal(t, exitOK, got.code)
	require.Contains(t, got.err, "--new-token: the agent has a token already, which stays. The server makes another one: POST "+server.URL)
	require.Equal(t, first, m.token())
	got = m.run("init", "--force", "--server", server.URL, "--name", "gpu-1")
	require.Equal(t, exitOK, got.code)
	require.Empty(t, got.err)
	require.Equal(t, first, m.token(), "a new file of the same agent")
	m.vars["KITT_TOKEN"] = strings.Repeat("v", 64)
	require.Equal(t, exitOK, m.run("init", "--new-token").code)
	require.Equal(t, m.vars["KITT_TOKEN"], m.token(), "which a running agent has anyway")
	delete(m.vars, "KITT_TOKEN")
	require.Equal(t, exitOK, m.run("init", "--token", first).code)

	other := controlPlane(t, kittapitest.Config{})
	require.Equal(t, exitOK, m.run("init", "--force", "--server", other.URL, "--name", "gpu-1").code)
	require.NotEqual(t, first, m.token(), "another server doesn't get to know it")
	require.Len(t, m.token(), 64)
	require.Equal(t, exitOK, m.run("init", "--new-token", "--force", "--server", other.URL, "--name", "gpu-1").code)
	require.NotEqual(t, first, m.token())
}

func TestInitWithoutTheServer(t *testing.T) {
	t.Parallel()
	server := controlPlane(t, kittapitest.Config{})
	server.SetDown(true)
	m := newMachine(t)
	got := m.run("init", "--server", server.URL, "--name", "gpu-1")
	require.Equal(t, exitOK, got.code)
	require.Empty(t, m.token())
	require.Contains(t, got.err, "run it again before the agent first starts")
	server.SetDown(false)
	got = m.run("init")
	require.Equal(t, exitOK, got.code)
	require.Empty(t, got.err)
	require.Len(t, m.token(), 64)

	server.SetDown(true)
	m = newMachine(t)
	got = m.run("init", "--server", server.URL, "--name", "gpu-1", "--new-token")
	require.Equal(t, exitOK, got.code)
	require.Len(t, m.token(), 64)
	require.Contains(t, got.err, `the server did not say whether it knows agent "gpu-1"`)
}

var rotateAdvice = regexp.MustCompile(`POST (http://\S+/rotate-token)[,;].* put the token of its answer into a file, run (kitt-agent init --token-file FILE) and restart the agent`)

// TestInitsAdviceWorks does what init's warnings and the agent's status advise,
// with the real program: the server takes the agent afterwards, and nobody else
// under its name.
func TestInitsAdviceWorks(t *testing.T) {
	prog := buildProgram(t)
	for name, tt := range map[string]struct {
		before func(t *testing.T, server *kittapitest.Server) // what is at the server
		init   []string
		says   string
		code   int // of status, before the advice is followed
	}{
		"registered without a token": {
			func(t *testing.T, s *kittapitest.Server) { require.NoError(t, register(t, s, "gpu-1", "")) },
			nil, "still trusts anybody who uses that name", exitOK,
		},
		"token lost": {
			func(t *testing.T, s *kittapitest.Server) {
				require.NoError(t, register(t, s, "gpu-1", strings.Repeat("a", 64)))
			},
			nil, "agent.yaml has none, so the server refuses this agent", exitDegraded,
		},
		"another token": {
			func(t *testing.T, s *kittapitest.Server) {
				require.NoError(t, register(t, s, "gpu-1", strings.Repeat("a", 64)))
			},
			[]string{"--token", strings.Repeat("b", 64)}, "the server has another token", exitDegraded,
		},
		"short token": {
			func(t *testing.T, s *kittapitest.Server) { require.NoError(t, register(t, s, "gpu-1", "short")) },
			[]string{"--token", "short"}, "the token is short", exitOK,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := controlPlane(t, kittapitest.Config{AuthToken: "operator"})
			tt.before(t, server)
			m := newMachine(t)
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			require.NoError(t, listener.Close())
			port := fmt.Sprint(listener.Addr().(*net.TCPAddr).Port)
			got := m.run(append([]string{"init", "--server", server.URL, "--name", "gpu-1", "--port", port}, tt.init...)...)
			require.Equal(t, exitOK, got.code, got.err)
			require.Contains(t, got.err, tt.says)
			advice := rotateAdvice.FindStringSubmatch(got.err)
			require.NotNil(t, advice, got.err)

			m.write(m.read() + "runner: simulated\nlisten: 127.0.0.1\ndrain_timeout: 1s\n")
			d := &daemon{t: t, prog: prog, home: m.home}
			t.Cleanup(d.kill)
			d.start()
			settled := func(code int, text string) {
				t.Helper()
				require.Eventually(t, func() bool {
					got = m.run("status")
					return got.code == code && strings.Contains(got.err+got.out, text)
				}, 30*time.Second, 50*time.Millisecond, "%s", &d.out)
			}
			if tt.code == exitDegraded {
				settled(exitDegraded, "the server refuses this agent")
				require.Contains(t, got.err, "/rotate-token", "status has the advice, too")
			} else {
				settled(exitOK, "registered as")
			}
			d.stop()

			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, advice[1], http.NoBody)
			require.NoError(t, err)
			req.Header.Set("Authorization", "Bearer operator") // "the server's own token, where it has one"
			resp, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, http.StatusOK, resp.StatusCode, "%s", body)
			var answer struct{ Token string }
			require.NoError(t, json.Unmarshal(body, &answer))
			file := filepath.Join(t.TempDir(), "token")
			require.NoError(t, os.WriteFile(file, []byte(answer.Token+"\n"), 0o600))
			got = m.run(strings.Fields(strings.Replace(advice[2], "FILE", file, 1))[1:]...)
			require.Equal(t, exitOK, got.code, got.err)
			require.Empty(t, got.err, "all is well")

			d.start()
			settled(exitOK, "registered as")
			require.Error(t, register(t, server, "gpu-1", ""))
			require.Error(t, register(t, server, "gpu-1", strings.Repeat("b", 64)))
		})
	}
}

// A token that is short is replaced before the agent registers, as the warning
// says.
func TestInitAdvisesALongTokenBeforeRegistration(t *testing.T) {
	t.Parallel()
	server := controlPlane(t, kittapitest.Config{})
	m := newMachine(t)
	got := m.run("init", "--server", server.URL, "--name", "gpu-1", "--token", "short")
	require.Equal(t, exitOK, got.code)
	require.Contains(t, got.err, "Another one: kitt-agent init --token-file FILE; the server takes it when the agent first registers.")
	long, err := exec.Command("od", "-An", "-tx1", "-N32", "/dev/urandom").Output()
	require.NoError(t, err)
	m.in = bytes.NewReader(regexp.MustCompile(`\s`).ReplaceAll(long, nil))
	got = m.run("init", "--token-file", "-")
	require.Equal(t, exitOK, got.code)
	require.Empty(t, got.err)
	require.NoError(t, register(t, server, "gpu-1", m.token()))
	require.Error(t, register(t, server, "gpu-1", "short"))
}
