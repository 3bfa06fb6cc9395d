package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
)

// A chaosFault is something that a victim suffers.
type chaosFault struct {
	name   string
	weight func(*victim) int // how often it is drawn, compared with others; 0 if the victim can't suffer it
	do     func(*victim, *rand.Rand)
}

func anyone(weight int) func(*victim) int { return func(*victim) int { return weight } }

func withEngine(weight int) func(*victim) int {
	return func(v *victim) int {
		if v.engine == nil {
			return 0
		}
		return weight
	}
}

func withDisk(weight int) func(*victim) int {
	return func(v *victim) int {
		if v.disk == "" {
			return 0
		}
		return weight
	}
}

// chaosFaults is what is done to one victim, by where it strikes.
var chaosFaults = []chaosFault{
	{"nothing", anyone(2), func(*victim, *rand.Rand) {}},

	// the agent
	{"kill", anyone(6), func(v *victim, draw *rand.Rand) {
		d := v.anyAgent(draw)
		if !d.settles() {
			return
		}
		d.kill()
		pause(upTo(draw, 300*time.Millisecond))
		d.start()
	}},
	{"stop", anyone(2), func(v *victim, draw *rand.Rand) {
		if d := v.anyAgent(draw); d.settles() {
			d.stop()
			d.start()
		}
	}},
	{"kill at a heartbeat", func(v *victim) int {
		// The next start listens for 100 s for another agent.
		if !v.long {
			return 0
		}
		return 1
	}, func(v *victim, draw *rand.Rand) {
		if draw.IntN(8) == 0 {
			d := v.anyAgent(draw)
			d.kill()
			d.start()
		}
	}},
	{"freeze", anyone(2), func(v *victim, draw *rand.Rand) {
		d := v.anyAgent(draw)
		d.signal(unix.SIGSTOP)
		pause(upTo(draw, 2*time.Second))
		d.signal(unix.SIGCONT)
	}},
	{"too many open files", func(v *victim) int {
		if !v.all {
			return 0
		}
		return 2
	}, func(v *victim, draw *rand.Rand) {
		d := v.anyAgent(draw)
		before, err := d.limitFiles(unix.Rlimit{Cur: uint64(4 + draw.IntN(24)), Max: 1 << 20})
		if err != nil {
			return // it may have ended
		}
		pause(upTo(draw, 3*time.Second))
		_, _ = d.limitFiles(before)
	}},
	{"clone", func(v *victim) int {
		if v.runner != "process" || len(v.agents) > 1 {
			return 0
		}
		return 1
	}, func(v *victim, _ *rand.Rand) {
		// By a server's clock that steps no other agent can be seen.
		if !v.clock.CompareAndSwap(untouched, cloned) {
			return
		}
		v.agents = append(v.agents, v.agents[0].clone(v.t))
		v.agents[1].start()
	}},

	// jobs
	{"cancel", anyone(2), func(v *victim, draw *rand.Rand) {
		v.anyAgent(draw).command(fmt.Sprintf(`{"type":"cancel","test_id":%q}`, v.anyTest(draw)))
	}},
	{"stop on the server", anyone(2), func(v *victim, draw *rand.Rand) {
		test := v.anyTest(draw)
		if row, _ := v.server.Test(test); row.Status == "queued" || row.Status == "dispatched" || row.Status == "running" {
			v.server.SetStatus(test, "failed", "Cancelled by user")
			v.stopped[test] = true
		}
	}},
	{"restored backup", anyone(1), func(v *victim, draw *rand.Rand) {
		test := v.anyTest(draw)
		row, _ := v.server.Test(test)
		status := []string{"queued", "dispatched", "running"}[draw.IntN(3)]
		if row.Status != "completed" || len(v.agents) > 1 || !v.agents[0].settles() {
			return
		}
		// What is not offered again is looked for when the agent starts.
		v.agents[0].kill()
		v.server.Restore(test, status, draw.IntN(chaosLines))
		v.agents[0].start()
	}},

	// the disk of the jobs
	{"full disk", withDisk(2), func(v *victim, draw *rand.Rand) {
		ballast := fillDisk(v.t, v.disk)
		pause(upTo(draw, 2*time.Second))
		if d := v.anyAgent(draw); draw.IntN(2) == 0 && d.settles() {
			d.kill()
			pause(upTo(draw, time.Second))
			d.start()
			pause(upTo(draw, time.Second))
		}
		require.NoError(v.t, os.Remove(ballast))
	}},

	// the engine
	{"engine killed", withEngine(3), func(v *victim, draw *rand.Rand) {
		require.NoError(v.t, v.engine.Kill())
		pause(upTo(draw, 2*time.Second))
		v.startEngine()
	}},
	{"engine restarted", withEngine(2), func(v *victim, draw *rand.Rand) {
		require.NoError(v.t, v.engine.Stop())
		pause(upTo(draw, time.Second))
		v.startEngine()
	}},
	{"engine frozen", withEngine(1), func(v *victim, draw *rand.Rand) {
		require.NoError(v.t, v.engine.Signal(unix.SIGSTOP))
		pause(upTo(draw, 7*time.Second))
		require.NoError(v.t, v.engine.Signal(unix.SIGCONT))
	}},
	{"containerd killed", withEngine(3), func(v *victim, draw *rand.Rand) {
		require.NoError(v.t, v.engine.StopContainerd())
		pause(upTo(draw, 2*time.Second))
		require.NoError(v.t, v.engine.StartContainerd())
	}},
	{"engine and containerd killed", withEngine(2), func(v *victim, draw *rand.Rand) {
		require.NoError(v.t, v.engine.StopContainerd())
		require.NoError(v.t, v.engine.Kill())
		pause(upTo(draw, 2*time.Second))
		require.NoError(v.t, v.engine.StartContainerd())
		v.startEngine()
	}},
	{"container restarted", withEngine(2), onContainer(func(v *victim, id string) error {
		_, err := v.engine.Client.ContainerRestart(v.t.Context(), id, client.ContainerRestartOptions{})
		return err
	})},
	{"container killed", withEngine(2), onContainer(func(v *victim, id string) error {
		_, err := v.engine.Client.ContainerKill(v.t.Context(), id, client.ContainerKillOptions{})
		return err
	})},
	{"container removed", withEngine(2), onContainer(func(v *victim, id string) error {
		_, err := v.engine.Client.ContainerRemove(v.t.Context(), id, client.ContainerRemoveOptions{Force: true})
		return err
	})},
	{"container paused", withEngine(2), onContainer(func(v *victim, id string) error {
		_, err := v.engine.Client.ContainerPause(v.t.Context(), id, client.ContainerPauseOptions{})
		pause(time.Second)
		_, unErr := v.engine.Client.ContainerUnpause(v.t.Context(), id, client.ContainerUnpauseOptions{})
		if err != nil {
			return err
		}
		return unErr
	})},
	{"image removed", withEngine(1), func(v *victim, draw *rand.Rand) {
		// A container that runs keeps it.
		_ = v.engine.Remove(v.t.Context(), "kitt:latest")
		pause(upTo(draw, time.Second))
		require.NoError(v.t, v.engine.Build(v.t.Context(), "kitt:latest", filepath.Join(v.prog.bin, "kitt"), ""))
	}},
}

// startEngine starts the engine, a second time where it doesn't answer within a minute, as
// on a machine that others keep busy.
func (v *victim) startEngine() {
	v.t.Helper()
	err := v.engine.Start(v.t.Context())
	if err != nil {
		v.t.Logf("the engine is started again: %v", err)
		require.NoError(v.t, v.engine.Kill())
		err = v.engine.Start(v.t.Context())
	}
	require.NoError(v.t, err)
}

// onContainer returns a fault that strikes the container of a job, if one runs.
func onContainer(do func(v *victim, id string) error) func(*victim, *rand.Rand) {
	return func(v *victim, _ *rand.Rand) {
		list, err := v.engine.Client.ContainerList(v.t.Context(), client.ContainerListOptions{})
		if err != nil || len(list.Items) == 0 {
			return // the engine may still be looking for containerd
		}
		_ = do(v, list.Items[0].ID) // it may have ended meanwhile
	}
}

func upTo(draw *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(draw.Int64N(int64(d)))
}

// A networkFault strikes all agents of a server.
type networkFault struct {
	name string
	do   func(*chaos, *rand.Rand)
}

// networkFaults is what is done to the server and what is before it.
var networkFaults = []networkFault{
	{"connections are reset", outageOf(kittapitest.Fault{Reset: true})},
	{"status 500", outageOf(kittapitest.Fault{Status: 500})},
	{"status 502", outageOf(kittapitest.Fault{Status: 502})},
	{"answers are lost", outageOf(kittapitest.Fault{CutAnswer: true})},
	{"answers are cut", outageOf(kittapitest.Fault{CutAfter: 5})},
	{"requests hang", outageOf(kittapitest.Fault{Hang: true})},
	{"too many requests", outageOf(kittapitest.Fault{Status: 429, RetryAfter: "1"})},
	{"a proxy refuses a line", refuseLines(http.StatusForbidden)},
	{"a proxy finds a line too large", refuseLines(http.StatusRequestEntityTooLarge)},
	{"a proxy refuses results", func(c *chaos, draw *rand.Rand) {
		c.server.SetFault(kittapitest.On("POST /api/v1/agents/*/results", kittapitest.Always(kittapitest.Fault{Status: http.StatusRequestEntityTooLarge})))
		pause(upTo(draw, 2*time.Second))
		c.server.SetFault(nil)
	}},
	{"a request in ten fails", func(c *chaos, draw *rand.Rand) {
		c.server.SetFault(kittapitest.Sometimes(draw.Uint64(), 0.1, kittapitest.Fault{Reset: true}))
		pause(upTo(draw, 3*time.Second))
		c.server.SetFault(nil)
	}},
	{"the server's clock steps", func(c *chaos, draw *rand.Rand) {
		if c.clock.CompareAndSwap(untouched, stepped) || c.clock.Load() == stepped {
			c.server.SetClockSkew(time.Duration(draw.IntN(48)-24) * time.Hour)
		}
	}},
}

func outageOf(f kittapitest.Fault) func(*chaos, *rand.Rand) {
	return func(c *chaos, draw *rand.Rand) {
		c.server.SetFault(kittapitest.Always(f))
		pause(100*time.Millisecond + upTo(draw, 500*time.Millisecond))
		c.server.SetFault(nil)
	}
}

// refuseLines returns a fault of a proxy that refuses some lines, alone and together
// with others.
func refuseLines(status int) func(*chaos, *rand.Rand) {
	return func(c *chaos, draw *rand.Rand) {
		bad := fmt.Appendf(nil, "line %d", 1+draw.IntN(9))
		c.server.SetFault(kittapitest.On("POST /api/v1/quicktest/*/logs", func(r *http.Request) kittapitest.Fault {
			body, err := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			if err != nil || !bytes.Contains(body, bad) {
				return kittapitest.Fault{}
			}
			return kittapitest.Fault{Status: status}
		}))
		pause(upTo(draw, 4*time.Second))
		c.server.SetFault(nil)
	}
}

// smallDisk mounts a small file system of their own for an agent's jobs, and returns
// where; an empty text if that can't be done.
func smallDisk(t *testing.T, d *daemon) string {
	t.Helper()
	jobs := filepath.Join(d.home, "jobs")
	require.NoError(t, os.Mkdir(jobs, 0o700))
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=192m", "none", jobs).CombinedOutput(); err != nil {
		t.Logf("SKIPPED: a full disk, as mount fails: %v: %s", err, out)
		return ""
	}
	t.Cleanup(func() { require.NoError(t, unix.Unmount(jobs, unix.MNT_DETACH)) })
	return jobs
}

// signal sends the agent a signal, if it runs.
func (d *daemon) signal(sig syscall.Signal) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cmd != nil {
		_ = d.cmd.Process.Signal(sig) // it may have ended by itself
	}
}

// settles reports whether the answer to the agent's latest heartbeat is known soon. An
// agent that ends before that has the next start listen for another one.
func (d *daemon) settles() bool {
	for range 40 {
		text, err := os.ReadFile(filepath.Join(d.home, "heartbeat.json"))
		if err == nil && bytes.Contains(text, []byte(`"open": false`)) || bytes.Contains(text, []byte(`"open":false`)) {
			return true
		}
		pause(50 * time.Millisecond)
	}
	return false
}

// limitFiles sets how many files the agent may have open, and returns what it was.
func (d *daemon) limitFiles(limit unix.Rlimit) (before unix.Rlimit, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cmd == nil {
		return before, os.ErrProcessDone
	}
	if err := unix.Prlimit(d.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &before); err != nil {
		return before, err
	}
	limit.Max = before.Max
	return before, unix.Prlimit(d.cmd.Process.Pid, unix.RLIMIT_NOFILE, &limit, nil)
}

var clones atomic.Int32

var portLine = regexp.MustCompile(`(?m)^port: \d+$`)

// clone returns an agent of the same name with a copy of the directory, as a machine
// that was cloned while it ran.
func (d *daemon) clone(t *testing.T) *daemon {
	t.Helper()
	home := filepath.Join(filepath.Dir(t.TempDir()), fmt.Sprintf("clone-%d", clones.Add(1)))
	d.signal(unix.SIGSTOP)
	out, err := exec.Command("cp", "-a", d.home, home).CombinedOutput()
	d.signal(unix.SIGCONT)
	require.NoError(t, err, "%s", out)
	// It has the port of the other one only on another machine.
	second := newDaemonNamed(t, d.prog, "unused", "http://127.0.0.1:1", "process")
	config, err := os.ReadFile(filepath.Join(home, "agent.yaml"))
	require.NoError(t, err)
	config = portLine.ReplaceAll(config, fmt.Appendf(nil, "port: %d", second.port))
	second.home = home
	require.NoError(t, os.WriteFile(filepath.Join(home, "agent.yaml"), config, 0o600))
	require.Equal(t, 1, strings.Count(string(config), "port: "))
	return second
}
