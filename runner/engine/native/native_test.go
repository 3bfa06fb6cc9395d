package native_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/engine"
	"github.com/kirizan/kitt-agent/runner/engine/enginetest"
	"github.com/kirizan/kitt-agent/runner/engine/native"
	"github.com/kirizan/kitt-agent/runner/process"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// bin is the directory of the program that plays llama-server.
var bin string

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "supervise" {
		os.Exit(process.Supervise(os.Args[2]))
	}
	if len(os.Args) == 5 && os.Args[1] == "start" {
		os.Exit(startAndStay(os.Args[2], os.Args[3], os.Args[4]))
	}
	err := os.Setenv("GORACE", "atexit_sleep_ms=0")
	if err == nil {
		bin, err = os.MkdirTemp("", "kitt-native")
	}
	if err == nil {
		_, err = runnertest.BuildFakeLlamaServer(bin)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(bin)
		os.Exit(code)
	}))
}

// startAndStay is a program that starts an engine and then lives until it is killed.
func startAndStay(dir, path, launch string) int {
	var l engine.Launch
	m, err := native.Open(config(dir, path))
	if err == nil {
		err = json.Unmarshal([]byte(launch), &l)
	}
	if err == nil {
		err = m.Start(context.Background(), l, 0, runner.NewOutput(os.Stdout))
	}
	fmt.Println("start returned:", err)
	select {}
}

func config(dir, path string) native.Config {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return native.Config{
		Dir: dir, Finder: engine.NewFinder(engine.FinderConfig{Dir: dir, Path: path, Home: dir}),
		Supervisor: []string{exe, "supervise"}, StopGrace: 300 * time.Millisecond,
	}
}

// open returns a manager that ends with the test, and so do its engines.
func open(t testing.TB, cfg native.Config) *native.Manager {
	t.Helper()
	m, err := native.Open(cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		for _, s := range engine.Specs() {
			err := m.Stop(context.Background(), s.Name, &runnertest.Recorder{})
			require.True(t, err == nil || errors.Is(err, engine.ErrNotRunning), "%v", err)
		}
		require.NoError(t, m.Close())
	})
	return m
}

func freePort(t testing.TB) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// launch returns what starts the program that plays llama-server with a model.
func launch(t testing.TB, id, model string) (l engine.Launch, port int) {
	t.Helper()
	port = freePort(t)
	return engine.Launch{ID: id, Engine: "llama_cpp", Model: model, Config: json.RawMessage(fmt.Sprintf(`{"port": %d}`, port))}, port
}

func healthy(port int) bool {
	answer, err := http.Get("http://127.0.0.1:" + strconv.Itoa(port) + "/health")
	if err != nil {
		return false
	}
	_ = answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

func llamaState(t testing.TB, m engine.Manager) engine.Status {
	t.Helper()
	all, err := m.Detect(t.Context())
	require.NoError(t, err)
	for _, s := range all {
		if s.Name == "llama_cpp" {
			return s
		}
	}
	require.Fail(t, "llama_cpp is not listed")
	return engine.Status{}
}

func alive(pid int) bool { return pid > 0 && syscall.Kill(pid, 0) == nil }

func TestContract(t *testing.T) {
	t.Parallel()
	m := open(t, config(t.TempDir(), bin))
	l, _ := launch(t, "job-1", "/m.gguf")
	require.NoError(t, enginetest.Test(t.Context(), m, l))
}

// A large output and a slow model hold nobody up, and the log has all of it.
func TestASlowEngineThatPrintsMuch(t *testing.T) {
	t.Parallel()
	m := open(t, config(t.TempDir(), bin))
	l, port := launch(t, "job-1", "fake:print=10MiB,slow=1500ms")
	var out runnertest.Recorder
	require.NoError(t, m.Start(t.Context(), l, 0, &out))
	require.True(t, healthy(port))
	require.Equal(t, 10<<10, strings.Count(out.Text(), "xxxxx\n"))
	require.Contains(t, out.Text(), "server is listening on http://127.0.0.1:")
	require.Contains(t, out.Messages(), "llama_cpp is healthy after ")
	s := llamaState(t, m)
	require.Equal(t, port, s.Port)
	require.True(t, alive(s.PID))
	require.Equal(t, "4567 (fake)", s.Version)
}

func TestEnginesThatDoNotComeUp(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ model, want string }{
		"dies":       {"fake:die=300ms,slow=1h", "llama_cpp ended before it was healthy: Exit 3; its last lines: loading model fake:die=300ms,slow=1h | server is listening on"},
		"never well": {"fake:sick", "llama_cpp was not healthy after 2s: /health answers 503 Service Unavailable; its last lines:"},
		"deaf":       {"fake:sick,deaf,child", "llama_cpp was not healthy after 2s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			cfg := config(dir, bin)
			cfg.StartTimeout = 2 * time.Second
			m := open(t, cfg)
			l, port := launch(t, "job-1", tt.model)
			err := m.Start(t.Context(), l, 0, &runnertest.Recorder{})
			require.ErrorContains(t, err, tt.want)
			class, _ := fault.Of(err)
			require.Equal(t, engine.ClassHealth, class)
			require.False(t, engine.PortTaken(port))
			require.Nil(t, llamaState(t, m).Launch, "nothing is left behind")
			require.Empty(t, processesOf(t, dir))

			err = m.Start(t.Context(), l, 0, &runnertest.Recorder{})
			require.ErrorContains(t, err, "llama_cpp was started before and has ended", "a launch starts at most once")
		})
	}
}

// processesOf returns the processes whose environment names a directory.
func processesOf(t testing.TB, dir string) (pids []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	require.NoError(t, err)
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && strings.Contains(string(text), "KITT_AGENT_RUN_DIR="+dir) {
			pids = append(pids, file)
		}
	}
	return pids
}

func TestAPortThatIsTaken(t *testing.T) {
	t.Parallel()
	m := open(t, config(t.TempDir(), bin))
	l, port := launch(t, "job-1", "/m")
	listener, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
	require.NoError(t, err)
	defer listener.Close()
	err = m.Start(t.Context(), l, 0, &runnertest.Recorder{})
	require.ErrorContains(t, err, fmt.Sprintf("port %d is taken, so llama_cpp can't listen on it", port))
	require.Nil(t, llamaState(t, m).Launch)
}

func TestAnEngineThatIsNotThere(t *testing.T) {
	t.Parallel()
	m := open(t, config(t.TempDir(), t.TempDir()))
	l, _ := launch(t, "job-1", "/m")
	err := m.Start(t.Context(), l, 0, &runnertest.Recorder{})
	require.ErrorContains(t, err, "the engine llama_cpp is not installed on this machine")
}

// An engine that ignores SIGTERM, and what it started, is gone after a stop.
func TestStopOfADeafEngine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := open(t, config(dir, bin))
	l, port := launch(t, "job-1", "fake:deaf,child")
	require.NoError(t, m.Start(t.Context(), l, 0, &runnertest.Recorder{}))
	require.NotEmpty(t, processesOf(t, dir))
	require.NoError(t, m.Stop(t.Context(), "llama_cpp", &runnertest.Recorder{}))
	require.False(t, healthy(port))
	require.Empty(t, processesOf(t, dir))
}

func TestWatchSeesAnEngineDie(t *testing.T) {
	t.Parallel()
	m := open(t, config(t.TempDir(), bin))
	l, _ := launch(t, "job-1", "fake:die=3s")
	require.NoError(t, m.Start(t.Context(), l, 0, &runnertest.Recorder{}))
	require.ErrorContains(t, m.Watch(t.Context(), "llama_cpp"), "Exit 3")
	require.Nil(t, llamaState(t, m).Launch)
}

// An engine outlives three programs that are killed, is found again by each, and can
// still be stopped.
func TestAnEngineOutlivesKilledPrograms(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, port := launch(t, "job-1", "fake:slow=500ms,print=1MiB")
	text, err := json.Marshal(l)
	require.NoError(t, err)
	exe, err := os.Executable()
	require.NoError(t, err)
	var pid int
	for i := range 3 {
		program := exec.Command(exe, "start", dir, bin, string(text))
		program.Stderr = os.Stderr
		stdout, err := program.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, program.Start())
		if i > 0 { // the first is killed while the engine is starting
			line := ""
			for !strings.HasPrefix(line, "start returned: ") {
				line, err = readLine(stdout)
				require.NoError(t, err)
			}
			require.Equal(t, "start returned: <nil>", line)
		} else {
			require.Eventually(t, func() bool { return engine.PortTaken(port) }, time.Minute, 10*time.Millisecond)
		}
		require.NoError(t, program.Process.Kill())
		require.Error(t, program.Wait())
	}
	require.True(t, healthy(port))

	m := open(t, config(dir, bin))
	s := llamaState(t, m)
	require.True(t, s.Running && s.Ready)
	require.Equal(t, l.ID, s.Launch.ID)
	pid = s.PID
	require.True(t, alive(pid))
	require.NoError(t, m.Stop(t.Context(), "llama_cpp", &runnertest.Recorder{}))
	require.False(t, healthy(port))
	require.Empty(t, processesOf(t, dir))
}

// readLine reads one line, byte by byte.
func readLine(r interface{ Read([]byte) (int, error) }) (string, error) {
	var line []byte
	for b := make([]byte, 1); ; {
		if _, err := r.Read(b); err != nil {
			return string(line), err
		}
		if b[0] == '\n' {
			return string(line), nil
		}
		line = append(line, b[0])
	}
}

// A start that was detached from goes on with the output where it left off.
func TestOutputGoesOnAfterADetach(t *testing.T) {
	t.Parallel()
	cfg := config(t.TempDir(), bin)
	first, err := native.Open(cfg)
	require.NoError(t, err)
	l, _ := launch(t, "job-1", "fake:print=2MiB,slow=2s")
	ctx, detach := context.WithCancelCause(t.Context())
	var out runnertest.Recorder
	out.OnOutput(func() { detach(runner.ErrDetach) })
	require.ErrorIs(t, first.Start(ctx, l, 0, &out), runner.ErrDetach)
	require.NoError(t, first.Close())
	out.OnOutput(nil)

	second := open(t, cfg)
	require.NoError(t, second.Start(t.Context(), l, out.Position(), &out))
	require.Equal(t, 2<<10, strings.Count(out.Text(), "xxxxx\n"))
	for i := range 2 << 10 {
		require.Contains(t, out.Text(), fmt.Sprintf("%07d x", i))
	}
}

func ExampleManager() {
	dir, err := os.MkdirTemp("", "engines")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	m, err := native.Open(native.Config{Dir: dir, Finder: engine.NewFinder(engine.FinderConfig{Dir: dir, Path: dir, Home: dir})})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer m.Close()
	err = m.Start(context.Background(), engine.Launch{ID: "job-1", Engine: "ollama"}, 0, runner.NewOutput(os.Stdout))
	fmt.Println(err)
	// Output: the engine ollama is not installed on this machine: there is no ollama in PATH (install it, or choose engine_mode docker)
}
