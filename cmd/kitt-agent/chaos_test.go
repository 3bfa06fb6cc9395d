package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

var (
	chaosTime = flag.Duration("chaos.time", 30*time.Second, "how long TestChaos breaks things")
	chaosSeed = flag.Uint64("chaos.seed", 0, "what TestChaos draws its faults from; 0 for the time")
)

// program is a built kitt-agent, and the directory of a program that plays kitt.
type program struct{ path, bin string }

// buildProgram builds the daemon as it is shipped.
func buildProgram(t testing.TB) program {
	t.Helper()
	dir := t.TempDir()
	p := program{path: filepath.Join(dir, "kitt-agent"), bin: filepath.Join(dir, "bin")}
	build := exec.Command("go", "build", "-o", p.path, ".")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, os.Mkdir(p.bin, 0o755))
	_, err = runnertest.BuildFakeKitt(p.bin)
	require.NoError(t, err)
	return p
}

// daemon is an agent in a process of its own, which can really be killed.
type daemon struct {
	t    testing.TB
	prog program
	home string
	port int

	out output

	mu  sync.Mutex
	cmd *exec.Cmd
}

// output keeps what a process prints while others look at it.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// newDaemon configures an agent of the server at url.
func newDaemon(t testing.TB, prog program, url, runner string, more ...string) *daemon {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := listener.Addr().(*net.TCPAddr).Port
	require.NoError(t, listener.Close())
	d := &daemon{t: t, prog: prog, home: t.TempDir(), port: port}
	config := fmt.Sprintf("name: chaos\nserver_url: %s\ntoken: chaos-token-0123456789\nport: %d\nlisten: 127.0.0.1\nrunner: %s\nheartbeat_interval_s: 10\nstop_grace: 1s\ndrain_timeout: 2s\n%s\n",
		url, port, runner, strings.Join(more, "\n"))
	require.NoError(t, os.WriteFile(filepath.Join(d.home, "agent.yaml"), []byte(config), 0o600))
	t.Cleanup(d.kill)
	return d
}

// start starts the agent.
func (d *daemon) start() {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cmd = exec.Command(d.prog.path, "start")
	d.cmd.Env = append(os.Environ(), "KITT_HOME="+d.home, "PATH="+d.prog.bin+":"+os.Getenv("PATH"))
	d.cmd.Stderr = &d.out
	// The children of a killed agent must not hold on to our output.
	d.cmd.WaitDelay = time.Second
	require.NoError(d.t, d.cmd.Start())
}

// kill kills the agent, as a crash does.
func (d *daemon) kill() { d.end(syscall.SIGKILL) }

// stop ends the agent politely.
func (d *daemon) stop() { d.end(syscall.SIGTERM) }

func (d *daemon) end(sig syscall.Signal) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cmd == nil {
		return
	}
	_ = d.cmd.Process.Signal(sig) // it may have ended by itself
	_ = d.cmd.Wait()
	d.cmd = nil
}

// command makes a request of the agent's API, which may well not answer.
func (d *daemon) command(body string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/api/commands", d.port), strings.NewReader(body))
	require.NoError(d.t, err)
	req.Header.Set("Authorization", "Bearer chaos-token-0123456789")
	if resp, err := http.DefaultClient.Do(req); err == nil {
		_ = resp.Body.Close()
	}
}

// outage makes a server misbehave for as long as it says.
type outage struct {
	kind atomic.Pointer[kittapitest.Fault]
}

func (o *outage) fault(*http.Request) kittapitest.Fault {
	if f := o.kind.Load(); f != nil {
		return *f
	}
	return kittapitest.Fault{}
}

// TestChaos breaks things at random while jobs run: the agent is killed or
// stopped, the server breaks connections, fails, hangs or loses answers, jobs
// are cancelled. Afterwards every test has ended exactly once at the server, no
// line of a job that ran to its end is missing, none is twice or out of order,
// and no process is left.
func TestChaos(t *testing.T) {
	prog := buildProgram(t)
	seed := *chaosSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d: go test ./cmd/kitt-agent -run TestChaos -chaos.seed=%d -chaos.time=%s", seed, seed, *chaosTime)
	draw := rand.New(rand.NewPCG(seed, 1))

	var out outage
	server, err := kittapitest.NewServer(kittapitest.Config{})
	require.NoError(t, err)
	defer server.Close()
	server.SetFault(out.fault)
	server.AddAgent("chaos")
	d := newDaemon(t, prog, server.URL, "process")
	const lines = 120
	var tests []string
	launch := func() {
		id, _, err := server.Launch("chaos", fmt.Sprintf("fake:lines.%d_delay.%dms", lines, 1+draw.IntN(8)))
		require.NoError(t, err)
		tests = append(tests, id)
	}
	for range 4 {
		launch()
	}
	d.start()
	rounds := map[string]int{}
	for until := time.Now().Add(*chaosTime); time.Now().Before(until); {
		pause(time.Duration(50+draw.IntN(400)) * time.Millisecond)
		switch what := draw.IntN(10); what {
		case 0, 1, 2:
			rounds["kill"]++
			d.kill()
			pause(time.Duration(draw.IntN(300)) * time.Millisecond)
			d.start()
		case 3:
			rounds["stop"]++
			d.stop()
			d.start()
		case 4, 5, 6:
			rounds["outage"]++
			faults := []kittapitest.Fault{{Reset: true}, {Status: 500}, {Status: 502}, {CutAnswer: true}, {Hang: true}}
			f := faults[draw.IntN(len(faults))]
			out.kind.Store(&f)
			pause(time.Duration(100+draw.IntN(500)) * time.Millisecond)
			out.kind.Store(nil)
		case 7:
			rounds["cancel"]++
			d.command(fmt.Sprintf(`{"type":"cancel","test_id":%q}`, tests[draw.IntN(len(tests))]))
		case 8:
			rounds["stop on the server"]++
			id := tests[draw.IntN(len(tests))]
			if row, _ := server.Test(id); row.Status == "queued" || row.Status == "dispatched" || row.Status == "running" {
				server.SetStatus(id, "failed", "Cancelled by user")
			}
		case 9:
			rounds["nothing"]++
		}
		if pending(server) < 4 {
			launch()
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	for _, id := range tests {
		require.NoError(t, server.WaitForEnd(ctx, id), "agent's log:\n%s", tail(d))
	}
	// Reports of jobs that ended while the server was away are still due.
	require.Eventually(t, func() bool { return undelivered(d) == 0 }, time.Minute, 50*time.Millisecond, "agent's log:\n%s", tail(d))
	d.stop()

	completed := 0
	reasons := map[string]int{}
	for _, id := range tests {
		row, _ := server.Test(id)
		reasons[row.Status+" "+row.Error]++
		checkHistory(t, row)
		got := numbersOf(server.Lines(id))
		for i, n := range got {
			require.Equal(t, i, n, "test %s, %s: a line is missing, twice or out of order\n%s", id, row.Status, strings.Join(server.Lines(id), "\n"))
		}
		if row.Status == "completed" {
			completed++
			require.Len(t, got, lines, "test %s", id)
		}
	}
	t.Logf("%v, %d tests, %v", rounds, len(tests), reasons)
	require.NotZero(t, completed, "agent's log:\n%s", tail(d))
	require.Len(t, server.Results(), completedJobs(t, d), "one result for each job that completed")
	require.Empty(t, processesOf(t, prog), "processes are left")
}

// pause waits where a fault takes its time; the time is part of the fault.
func pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}

func pending(s *kittapitest.Server) int {
	n := 0
	for _, t := range s.Tests() {
		if t.Status != "completed" && t.Status != "failed" {
			n++
		}
	}
	return n
}

// undelivered returns how many reports the agent still owes, -1 if it does not
// say.
func undelivered(d *daemon) int {
	cmd := exec.Command(d.prog.path, "status", "--json")
	cmd.Env = append(os.Environ(), "KITT_HOME="+d.home)
	text, err := cmd.Output()
	if err != nil {
		return -1
	}
	m := regexp.MustCompile(`"undelivered":\s*(\d+)`).FindSubmatch(text)
	if m == nil {
		return -1
	}
	var n int
	_, _ = fmt.Sscan(string(m[1]), &n)
	return n
}

// completedJobs returns how many of the agent's jobs completed, by its own
// records: somebody may have stopped the test on the server at the last moment.
func completedJobs(t *testing.T, d *daemon) int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(d.home, "jobs", "*", "job.json"))
	require.NoError(t, err)
	n := 0
	for _, f := range files {
		text, err := os.ReadFile(f)
		require.NoError(t, err)
		if bytes.Contains(text, []byte(`"state": "completed",`)) {
			n++
		}
	}
	return n
}

// checkHistory checks that a test ended once, and that nothing followed.
func checkHistory(t *testing.T, row kittapitest.Test) {
	t.Helper()
	ends := 0
	for _, status := range row.History {
		if status == "completed" || status == "failed" {
			ends++
		}
	}
	last := row.History[len(row.History)-1]
	require.Equal(t, 1, ends, "test %s: %v", row.ID, row.History)
	require.Contains(t, []string{"completed", "failed"}, last, "test %s: %v", row.ID, row.History)
	require.LessOrEqual(t, len(slices.DeleteFunc(slices.Clone(row.History), func(s string) bool { return s != "running" })), 1, "%v", row.History)
}

var numbered = regexp.MustCompile(`^line (\d+)`)

// numbersOf returns the numbers of the lines that the benchmark printed.
func numbersOf(lines []string) []int {
	var numbers []int
	for _, l := range lines {
		var n int
		if m := numbered.FindStringSubmatch(l); m != nil {
			_, _ = fmt.Sscan(m[1], &n)
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// processesOf returns the command lines of what still runs of prog.
func processesOf(t *testing.T, prog program) []string {
	t.Helper()
	var left []string
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // it ended
		}
		if line := strings.ReplaceAll(string(text), "\x00", " "); strings.Contains(line, filepath.Dir(prog.path)) {
			left = append(left, line)
		}
	}
	return left
}

// tail returns the end of what the agent printed.
func tail(d *daemon) string {
	text := d.out.String()
	return text[max(0, len(text)-6000):]
}
