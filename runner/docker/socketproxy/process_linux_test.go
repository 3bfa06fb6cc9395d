package socketproxy

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if path, err := buildProgram(); err == nil {
		os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

var buildProgram = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "kitt-socket-proxy")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "kitt-socket-proxy")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "./kitt-socket-proxy")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	return path, cmd.Run()
})

// program returns the command line of the program as releases have it.
func program(t testing.TB) []string {
	path, err := buildProgram()
	require.NoError(t, err)
	return []string{path}
}

// start has a process serve the socket of a job on a stub.
func start(t *testing.T, dir string) (Policy, *http.Client) {
	engine := httptest.NewServer(&stub{list: `[]`})
	t.Cleanup(engine.Close)
	policy := Policy{
		Job: "job-1", Engine: "tcp://" + engine.Listener.Addr().String(), Images: DefaultImages(),
		ShmMax: 1 << 30, Pids: DefaultPids, Network: NetworkHost,
	}
	require.NoError(t, Start(t.Context(), program(t), dir, policy))
	t.Cleanup(func() { require.NoError(t, End(context.Background(), dir)) })
	return policy, clientOf(t, dir)
}

// clientOf returns a client of the socket in dir, whose path may be long.
func clientOf(t *testing.T, dir string) *http.Client {
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		d, err := os.Open(SocketDir(dir))
		if err != nil {
			return nil, err
		}
		defer d.Close()
		return net.Dial("unix", "/proc/self/fd/"+strconv.Itoa(int(d.Fd()))+"/docker.sock")
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func status(client *http.Client, method, path string) (int, error) {
	r, err := http.NewRequest(method, "http://docker"+path, nil)
	if err != nil {
		return 0, err
	}
	answer, err := client.Do(r)
	if err != nil {
		return 0, err
	}
	return answer.StatusCode, answer.Body.Close()
}

// TestProcess serves a job through its life, in a directory whose path is longer than a
// socket's may be. A second start and an end by another program find the first.
func TestProcess(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 40), "proxy")
	require.NoError(t, os.MkdirAll(filepath.Dir(dir), 0o700))
	policy, client := start(t, dir)
	got, err := status(client, "GET", "/_ping")
	require.NoError(t, err)
	require.Equal(t, 200, got)
	first, alive, err := readState(dir)
	require.NoError(t, err)
	require.True(t, alive)
	require.Less(t, resident(t, first.PID), int64(10<<20), "bytes resident")

	policy.Images = []string{"alpine"}
	require.NoError(t, Start(t.Context(), program(t), dir, policy), "it runs already")
	again, _, err := readState(dir)
	require.NoError(t, err)
	require.Equal(t, first, again)
	frozen, err := readPolicy(filepath.Join(dir, policyFile))
	require.NoError(t, err)
	require.Equal(t, DefaultImages(), frozen.Images)

	got, err = status(client, "GET", "/images/alpine/json")
	require.NoError(t, err)
	require.Equal(t, 403, got)
	log, err := os.ReadFile(filepath.Join(dir, logFile))
	require.NoError(t, err)
	require.Contains(t, string(log), "the image alpine:latest is not one of")

	info, err := os.Stat(filepath.Join(SocketDir(dir), socketFile))
	require.NoError(t, err)
	require.EqualValues(t, 0o666, info.Mode().Perm(), "a container's user may be any")
	entries, err := os.ReadDir(SocketDir(dir))
	require.NoError(t, err)
	require.Len(t, entries, 1, "a container sees nothing else")

	require.NoError(t, End(t.Context(), dir))
	_, alive, err = readState(dir)
	require.NoError(t, err)
	require.False(t, alive)
	require.NoError(t, End(t.Context(), dir), "twice")
	require.NoError(t, End(t.Context(), dir+"-none"), "there was none")
}

// TestProcessIsKilled starts it again, by the policy of before.
func TestProcessIsKilled(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "proxy")
	_, client := start(t, dir)
	first, _, err := readState(dir)
	require.NoError(t, err)
	require.NoError(t, unix.Kill(first.PID, unix.SIGKILL))
	require.Eventually(t, func() bool { return !first.Alive() }, 10*time.Second, time.Millisecond)
	require.NoError(t, Restart(t.Context(), program(t), dir))
	got, err := status(client, "GET", "/_ping")
	require.NoError(t, err)
	require.Equal(t, 200, got)
	require.ErrorIs(t, Restart(t.Context(), program(t), dir+"-none"), os.ErrNotExist)
}

// TestProcessIsStuck stops the process, so that it hears no polite signal.
func TestProcessIsStuck(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "proxy")
	start(t, dir)
	id, _, err := readState(dir)
	require.NoError(t, err)
	require.NoError(t, unix.Kill(id.PID, unix.SIGSTOP))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, End(ctx, dir))
	require.False(t, id.Alive())
}

// TestBadStarts says why no process serves.
func TestBadStarts(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "proxy")
	good := Policy{Job: "job-1", Engine: "unix:///nowhere", ShmMax: 1, Pids: 1, Network: NetworkHost}
	for want, change := range map[string]func(*Policy){
		"not a job's ID":              func(p *Policy) { p.Job = "../x" },
		"neither unix:///path":        func(p *Policy) { p.Engine = "ssh://host" },
		"not the path of a file":      func(p *Policy) { p.Caches = []string{"/"} },
		"neither the name of an imag": func(p *Policy) { p.Images = []string{"["} },
		"must be positive":            func(p *Policy) { p.Pids = 0 },
		"network \"other\"":           func(p *Policy) { p.Network = "other" },
	} {
		bad := good
		change(&bad)
		require.ErrorContains(t, Start(t.Context(), program(t), dir, bad), want)
	}
	require.ErrorContains(t, Start(t.Context(), []string{"/bin/false"}, dir, good), "exit status 1")
	require.ErrorContains(t, Start(t.Context(), nil, dir, good), "there is no program")
	require.NoError(t, os.RemoveAll(SocketDir(dir)))
	require.NoError(t, os.WriteFile(SocketDir(dir), nil, 0o600))
	err := Restart(t.Context(), program(t), dir)
	require.ErrorContains(t, err, "not a directory")
	require.NotContains(t, err.Error(), "\n")
}

// resident returns the resident memory of a process in bytes.
func resident(t *testing.T, pid int) int64 {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	require.NoError(t, err)
	m := regexp.MustCompile(`VmRSS:\s+([0-9]+) kB`).FindSubmatch(text)
	require.NotNil(t, m)
	kib, err := strconv.ParseInt(string(m[1]), 10, 64)
	require.NoError(t, err)
	t.Logf("resident: %d KiB", kib)
	return kib << 10
}
