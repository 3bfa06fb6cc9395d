package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/agent/fleet"
	"github.com/kirizan/kitt-agent/agent/kittapi"
	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/runner/simulated"
)

func TestMain(m *testing.M) {
	if os.Getenv(serverEnv) != "" {
		os.Exit(serve())
	}
	goleak.VerifyTestMain(m)
}

// run runs a fleet until stop is called, which waits for its end.
func run(t testing.TB, cfg fleet.Config) (f *fleet.Fleet, stop func()) {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	f, err := fleet.New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			require.NoError(t, <-done)
		}
	}
	t.Cleanup(stop)
	return f, stop
}

// listen starts a server and returns it with a client of it.
func listen(t testing.TB, cfg kittapitest.Config) (*kittapitest.Server, *kittapi.Client) {
	t.Helper()
	server, err := kittapitest.NewServer(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	client, err := kittapi.New(kittapi.Config{URL: server.URL, Token: "fleet"})
	require.NoError(t, err)
	return server, client
}

// bubble returns a server and a client of it that need no network, for tests in
// a synctest bubble.
func bubble(t testing.TB, cfg kittapitest.Config) (*kittapitest.Server, *kittapi.Client) {
	t.Helper()
	server, err := kittapitest.NewInMemory(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	client, err := kittapi.New(kittapi.Config{URL: server.URL, Token: "fleet", Transport: server.Transport()})
	require.NoError(t, err)
	return server, client
}

// launch returns a function for Config.Registered that queues n tests for each
// agent.
func launch(client *kittapi.Client, n int) func(context.Context, string, string) error {
	return func(ctx context.Context, _, id string) error {
		for i := range n {
			_, err := client.Launch(ctx, kittapi.Launch{AgentID: id, Model: fmt.Sprintf("Qwen/Qwen3-%dB", 4+4*i), Engine: "vllm"})
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// await waits until n jobs have ended, as the server tells it.
func await(t testing.TB, f *fleet.Fleet, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return f.Stats().Ended() >= int64(n) }, 5*time.Minute, 5*time.Millisecond)
}

// Every agent of a fleet registers with its own hardware, runs its jobs and
// reports them, and the server has each line of each log.
func TestFleetRunsItsJobs(t *testing.T) {
	t.Parallel()
	server, client := listen(t, kittapitest.Config{})
	f, stop := run(t, fleet.Config{
		Server: client, Prefix: "t", Ramp: time.Second, Registered: launch(client, 2),
		Groups: []fleet.Group{
			{Count: 12, Hardware: fleet.Hardware{Profile: "h100-8"}},
			{Count: 6, Name: "mixed"},
			{Count: 2, Name: "spark", Hardware: fleet.Hardware{Profile: "dgx-spark", RAMGiB: 64, Environment: "docker"}},
		},
	})
	await(t, f, 40)
	stop()

	s := f.Stats()
	require.EqualValues(t, 20, s.Agents)
	require.EqualValues(t, 20, s.Registered)
	require.EqualValues(t, 0, s.Started)
	require.EqualValues(t, 40, s.JobsStarted)
	require.EqualValues(t, 40, s.JobsCompleted)
	require.Zero(t, s.Errors, s.LastError)
	require.Positive(t, s.LatencyP50)
	require.LessOrEqual(t, s.LatencyP50, s.LatencyP99)

	check, err := f.Check(t.Context())
	require.NoError(t, err)
	require.True(t, check.OK(), "%+v", check)
	require.Equal(t, 40, check.Jobs)
	require.Equal(t, s.LinesDelivered, check.Lines)
	require.Greater(t, s.LinesPrinted, int64(40*5))
	require.Len(t, server.Results(), 40)
	require.Empty(t, server.Breaches())

	h100, ok := server.Agent("t-h100-8-0012")
	require.True(t, ok)
	require.Equal(t, "t-h100-8-0012", h100.Hostname)
	require.EqualValues(t, 8, h100.Fields["gpu_count"])
	spark, ok := server.Agent("t-spark-0001")
	require.True(t, ok)
	require.EqualValues(t, 64, spark.Fields["ram_gb"])
	require.Equal(t, "docker", spark.Fields["environment_type"])
	require.Equal(t, "NVIDIA GB10 64GB", spark.Fields["gpu_info"])
}

// A line that the server lacks, has twice or has in another order is seen.
func TestCheckSeesWhatIsAmiss(t *testing.T) {
	t.Parallel()
	server, client := listen(t, kittapitest.Config{})
	f, stop := run(t, fleet.Config{
		Server: client, Ramp: -1, Registered: launch(client, 1),
		Groups: []fleet.Group{{Count: 2, Hardware: fleet.Hardware{Profile: "l4-1"}}},
	})
	await(t, f, 2)
	stop()
	check, err := f.Check(t.Context())
	require.NoError(t, err)
	require.True(t, check.OK(), "%+v", check)

	id := server.Tests()[0].ID
	require.NoError(t, client.ReportLog(t.Context(), id, "once more"))
	server.SetStatus(server.Tests()[1].ID, "failed", "somebody")
	check, err = f.Check(t.Context())
	require.NoError(t, err)
	require.False(t, check.OK())
	require.EqualValues(t, 1, check.Extra)
	require.Equal(t, 2, check.Differ)
	require.Len(t, check.Faults, 2)

	server.Forget()
	_, err = f.Check(t.Context())
	require.ErrorContains(t, err, "not found")
}

// Scenarios end as they say, group by group.
func TestScenarios(t *testing.T) {
	t.Parallel()
	server, client := listen(t, kittapitest.Config{})
	group := func(name, scenario string) fleet.Group {
		s, err := simulated.ParseScenario(scenario)
		require.NoError(t, err)
		return fleet.Group{Name: name, Count: 1, Hardware: fleet.Hardware{Profile: "rtx4090"}, Scenario: &s}
	}
	f, stop := run(t, fleet.Config{
		Server: client, Ramp: -1, Registered: launch(client, 1),
		Groups: []fleet.Group{
			group("well", ""), group("fail", "fail-at=throughput,exit=3"), group("oom", "oom"),
			group("crash", "crash"), group("odd", "progress,invalid-utf8,flood=3000"), group("shared", "foreign-process"),
		},
	})
	await(t, f, 6)
	stop()
	want := map[string]string{"shared": "completed", "well": "completed", "fail": "failed", "oom": "failed", "crash": "failed", "odd": "completed"}
	for _, test := range server.Tests() {
		kind := strings.Split(test.Agent, "-")[1]
		require.Equal(t, want[kind], test.Status, "%s: %s", test.Agent, test.Error)
		text := strings.Join(server.Lines(test.ID), "\n")
		require.Equal(t, kind == "shared", strings.HasSuffix(text, "\nMachine: INVALID - process 4242 (train of uid 1000) used up to 30% of the SMs on GPU 0"), text)
	}
	check, err := f.Check(t.Context())
	require.NoError(t, err)
	require.True(t, check.OK(), "%+v", check)
	require.Greater(t, check.Lines, int64(3000))
}

// A fleet that is stopped while its jobs hang reports them as failed and leaves
// nothing running.
func TestStopReportsWhatRan(t *testing.T) {
	t.Parallel()
	server, client := listen(t, kittapitest.Config{})
	hang, err := simulated.ParseScenario("hang")
	require.NoError(t, err)
	f, stop := run(t, fleet.Config{
		Server: client, Ramp: -1, Scenario: hang, Registered: launch(client, 1),
		Groups: []fleet.Group{{Count: 5, Hardware: fleet.Hardware{Profile: "l4-1"}}},
	})
	require.Eventually(t, func() bool {
		s := f.Stats()
		return s.JobsRunning == 5 && s.JobsStarted == 5
	}, time.Minute, 5*time.Millisecond)
	stop()
	for _, test := range server.Tests() {
		require.Equal(t, "failed", test.Status)
		require.Contains(t, test.Error, "the agent was stopped")
	}
	require.Zero(t, f.Stats().JobsRunning)
}

// Agents start one after the other over the ramp, and go on beating in the
// rhythm in which they began: a fleet never comes all at once.
func TestRampSpreadsTheFleet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		begun := time.Now()
		perSecond := map[int]int{}
		var beats atomic.Int64
		srv.Fault = func(kind string) error {
			beats.Add(1)
			perSecond[int(time.Since(begun).Seconds())]++ // under no lock: one at a time, see below
			return nil
		}
		f, stop := run(t, fleet.Config{
			Server: srv, MaxInFlight: 1, // one request at a time
			Groups: []fleet.Group{{Count: 200, Hardware: fleet.Hardware{Profile: "l4-1"}}},
		})
		time.Sleep(1990 * time.Millisecond)
		require.EqualValues(t, 100, f.Stats().Started)
		time.Sleep(3 * time.Minute)
		require.EqualValues(t, 200, f.Stats().Online)
		stop()
		for second, n := range perSecond {
			// Fifty agents a second register, beat and ask for lost commands.
			require.LessOrEqual(t, n, 200, "second %d", second)
		}
		require.Greater(t, beats.Load(), int64(200*7))
	})
}

// While the server is away no agent counts as online; when it is back all do,
// and jobs that ran meanwhile are delivered.
func TestServerThatGoesAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server, client := bubble(t, kittapitest.Config{})
		f, stop := run(t, fleet.Config{
			Server: client, Speed: 1, Registered: launch(client, 1),
			Groups: []fleet.Group{{Count: 20, Hardware: fleet.Hardware{Profile: "a100-1"}}},
		})
		time.Sleep(10 * time.Second)
		require.EqualValues(t, 20, f.Stats().Online)
		require.Positive(t, f.Stats().JobsRunning)
		server.SetDown(true)
		time.Sleep(10 * time.Minute)
		s := f.Stats()
		require.Zero(t, s.Online)
		require.Zero(t, s.JobsRunning)
		require.Positive(t, s.Errors)
		require.NotEmpty(t, s.LastError)
		server.SetDown(false)
		time.Sleep(3 * time.Minute)
		require.EqualValues(t, 20, f.Stats().Online)
		require.EqualValues(t, 20, f.Stats().JobsCompleted)
		stop()
		check, err := f.Check(t.Context())
		require.NoError(t, err)
		require.True(t, check.OK(), "%+v", check)
		require.Equal(t, 20, check.Jobs)
	})
}

// An agent that cannot run ends the fleet, with its name.
func TestAgentThatCannotRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "sim-l4-1-0002"), nil, 0o600))
	f, err := fleet.New(fleet.Config{
		Server: &agenttest.Server{}, Dir: dir, Ramp: -1,
		Groups: []fleet.Group{{Count: 3, Hardware: fleet.Hardware{Profile: "l4-1"}}},
	})
	require.NoError(t, err)
	require.ErrorContains(t, f.Run(t.Context()), "agent sim-l4-1-0002")
	require.ErrorContains(t, f.Run(t.Context()), "already called")
}

// What is launched for agents that register and cannot be is tried again.
func TestRegisteredIsTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		f, stop := run(t, fleet.Config{
			Server: &agenttest.Server{}, Groups: []fleet.Group{{Count: 1}},
			Registered: func(_ context.Context, name, id string) error {
				require.Equal(t, "sim-random-0001", name)
				require.Equal(t, "id-of-sim-random-0001", id)
				if calls.Add(1) == 1 {
					return errors.New("not now")
				}
				return nil
			},
		})
		time.Sleep(time.Minute)
		require.EqualValues(t, 2, calls.Load())
		require.EqualValues(t, 1, f.Stats().Registered)
		stop()
	})
}

func TestConfigFaults(t *testing.T) {
	t.Parallel()
	three, minus := 3.0, -1
	_, err := fleet.New(fleet.Config{Prefix: "a/b"})
	for _, want := range []string{"Server is missing", "Dir is empty", "Groups is empty", `"a/b" has a slash`} {
		require.ErrorContains(t, err, want)
	}
	_, err = fleet.New(fleet.Config{Speed: -1, Groups: []fleet.Group{{Count: 1}}})
	for _, want := range []string{"Server is missing", "group random: ", "bad Speed -1"} {
		require.ErrorContains(t, err, want, "all at once")
	}
	groups := []fleet.Group{
		{Count: 1, Hardware: fleet.Hardware{Profile: "h1000"}},
		{Count: 1, Name: "a", Hardware: fleet.Hardware{GPU: "Voodoo"}},
		{Count: 1, Name: "b", Hardware: fleet.Hardware{GPUs: &minus}},
		{Count: -1, Name: "c", Speed: &three},
		{Count: 1, Name: "c", Hardware: fleet.Hardware{Arch: "m68k", RAMGiB: -4, Environment: "cloud"}},
		{Count: 1, Name: "d/e"},
		{Count: 1, Name: "twice"}, {Count: 1, Name: "twice"},
	}
	_, err = fleet.New(fleet.Config{Server: &agenttest.Server{}, Dir: t.TempDir(), Groups: groups})
	for _, want := range []string{
		`no profile "h1000"; choose one of random, h100-8`, `"Voodoo" is not known`, "number of GPUs is -1", "Count -1 is negative",
		`"m68k" is neither`, "-4 GiB", `"cloud" is not one of`, `"d/e" has a slash`, "group twice: two groups have this name",
	} {
		require.ErrorContains(t, err, want)
	}
	_, err = fleet.New(fleet.Config{Server: &agenttest.Server{}, Dir: t.TempDir(), Groups: []fleet.Group{{}}})
	require.ErrorContains(t, err, "the groups have no agents")
}

// Every agent of a group has the group's Machine.
func TestGroupWithItsOwnMachine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, _ := hwdetect.Profile("gh200")
		m.Hostname = "mine"
		srv := &agenttest.Server{}
		_, stop := run(t, fleet.Config{Server: srv, Groups: []fleet.Group{{Count: 2, Machine: m}}})
		time.Sleep(time.Minute)
		stop()
		require.Equal(t, "mine", m.Hostname)
		regs := srv.Registrations()
		require.Len(t, regs, 2)
		require.Equal(t, "sim-custom-0002", regs[1].Machine.Hostname)
		require.Equal(t, m.GPUs, regs[1].Machine.GPUs)
	})
}
