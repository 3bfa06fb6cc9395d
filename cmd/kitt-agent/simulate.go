package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/fleet"
	"github.com/kirizan/kitt-agent/agent/kittapi"
	"github.com/kirizan/kitt-agent/runner/simulated"
)

// simulation is what `kitt-agent simulate` is asked for.
type simulation struct {
	server, token, tokenFile, serverToken, ca string
	insecure                                  bool

	count    int
	profiles []string
	plan     string // file
	prefix   string
	hardware fleet.Hardware
	gpus     int
	scenario string
	seed     uint64
	speed    float64
	interval time.Duration
	ramp     time.Duration
	inFlight int

	jobs                 int
	model, engine, suite string

	duration time.Duration
	dir      string
	check    bool
	json     bool
}

const simulateExample = `  kitt-agent simulate --server http://127.0.0.1:8080 --count 5
  kitt-agent simulate --count 50 --profile h100-8 --jobs 1 --speed 0
  kitt-agent simulate --profile h100-8=20 --profile dgx-spark=5 --duration 1h
  kitt-agent simulate --count 10 --gpu "NVIDIA L40S" --gpus 4 --ram 512 --scenario oom
  kitt-agent simulate --fleet fleet.yaml --json`

const simulateHelp = `Run virtual agents against a KITT server: real agents whose machines are made up and
whose benchmarks are simulated, from one to thousands in this process. Each registers
under its own name, beats, takes its tests, streams their logs and reports results.

Whoever has the server's address sees them as any other agent; launch tests on its
pages, or let --jobs launch quick tests on each agent and wait for their end. They
live for as long as the command runs, and the server then shows them as offline.

Tokens: every agent presents --token or KITT_TOKEN, which the server takes for new
names. A server with a token of its own needs that too (--server-token or
KITT_SERVER_TOKEN). A token that stands in a flag can be seen by other users of the
machine while the command runs; in a variable or --token-file it cannot. agent.yaml is
not read.

A file for --fleet holds several kinds of agents:

  speed: 1
  agents:
    - profile: h100-8
      count: 20
    - name: flaky
      profile: rtx4090
      count: 5
      scenario: progress,fail-at=latency
    - name: spark
      count: 3
      gpu: NVIDIA GB10
      gpus: 1
      ram_gb: 120
      environment: dgx_spark

Requests are made one at a time unless --in-flight says otherwise: a KITT server 1.7
answers no faster when they overlap, and can lock its database for good when one of
them brings a result.

Profiles are the machines that "--profile help" lists; without one each agent has
another machine. A scenario is made of these words:

  fail-at=PLACE    hang[=PLACE]     oom[=PLACE]       crash[=PLACE]
  exit=STATUS      slow[=FACTOR]    flood[=LINES]     long-line[=BYTES]
  progress         invalid-utf8     no-metrics        broken-metrics
  passed-false     throttled        foreign-process   clock-drift
  ecc-error        hung-gpu

The last five are faults of the machine, which the verdict at the end of a job's log
names.

Ctrl-C, --duration and the end of all that --jobs launched stop the agents: what runs
then is reported as failed. At the end the log of every job is held against the
server's, line by line. Unless Ctrl-C ended it the exit code is 1 if a line is missing
there or a launched test has not ended. Jobs are written to disk as by any agent; with
thousands of them a --dir in memory, such as /dev/shm/fleet, is faster.`

// newSimulateCommand returns `kitt-agent simulate`.
func newSimulateCommand(env *environment) *cobra.Command {
	var s simulation
	cmd := &cobra.Command{
		Use:     "simulate",
		Short:   "Run virtual agents against a KITT server",
		Long:    simulateHelp,
		Example: simulateExample,
		Args:    exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("gpus") {
				s.hardware.GPUs = &s.gpus
			}
			if len(s.profiles) == 1 && s.profiles[0] == "help" {
				return env.listProfiles()
			}
			client, err := env.simulateServer(&s)
			if err != nil {
				return err
			}
			cfg, err := s.config(cmd.Flags().Changed, env.stdin)
			if err != nil {
				return err
			}
			cfg.Server = client
			return env.simulate(cmd.Context(), s, cfg, client)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&s.server, "server", "", "`address` of the KITT server (default KITT_SERVER)")
	flags.StringVar(&s.token, "token", "", "the agents' token (default KITT_TOKEN)")
	flags.StringVar(&s.tokenFile, "token-file", "", "`file` that holds the agents' token, - for standard input")
	flags.StringVar(&s.serverToken, "server-token", "", "the server's own token, where it has one (default KITT_SERVER_TOKEN)")
	flags.StringVar(&s.ca, "ca", "", "`file` with the authority that signed the server's certificate (default KITT_TLS_CA)")
	flags.BoolVar(&s.insecure, "insecure", false, "do not verify the server's certificate")
	flags.IntVar(&s.count, "count", 1, "how many agents, for each profile that names no number")
	flags.StringArrayVar(&s.profiles, "profile", nil, "`NAME or NAME=COUNT` of the agents' machine, several times for several; help lists them")
	flags.StringVar(&s.plan, "fleet", "", "`file` that describes the fleet, - for standard input")
	flags.StringVar(&s.prefix, "prefix", fleet.DefaultPrefix, "how the agents' names begin")
	flags.StringVar(&s.hardware.GPU, "gpu", "", "`model` of GPU in place of the profile's")
	flags.IntVar(&s.gpus, "gpus", 0, "how many GPUs in place of the profile's")
	flags.StringVar(&s.hardware.CPU, "cpu", "", "`model` of CPU in place of the profile's")
	flags.StringVar(&s.hardware.Arch, "arch", "", "amd64 or arm64 in place of the profile's")
	flags.Int64Var(&s.hardware.RAMGiB, "ram", 0, "`GiB` of memory in place of the profile's")
	flags.StringVar(&s.hardware.Environment, "environment", "", "environment `type` in place of the profile's, such as docker")
	flags.StringVar(&s.scenario, "scenario", "", "what goes wrong in benchmarks, such as progress,fail-at=latency")
	flags.Uint64Var(&s.seed, "seed", 1, "what machines and figures are drawn from")
	flags.Float64Var(&s.speed, "speed", 1, "factor on the delays of benchmarks; 0 for none")
	flags.DurationVar(&s.interval, "interval", 0, "time between heartbeats, 10s to 300s (default the server's)")
	flags.DurationVar(&s.ramp, "ramp", 0, "time over which the agents start (default 20ms for each, at most 30s)")
	flags.IntVar(&s.inFlight, "in-flight", 1, "requests under way at once, of all agents together")
	flags.IntVar(&s.jobs, "jobs", 0, "launch so many quick tests on each agent and stop when they have ended")
	flags.StringVar(&s.model, "model", "Qwen/Qwen3-1.7B", "`model` of launched tests")
	flags.StringVar(&s.engine, "engine", "vllm", "engine of launched tests")
	flags.StringVar(&s.suite, "suite", "quick", "suite of launched tests: quick, performance or standard")
	flags.DurationVar(&s.duration, "duration", 0, "stop after that time (default never)")
	flags.StringVar(&s.dir, "dir", "", "`directory` to keep the agents' jobs in (default one that is removed at the end)")
	flags.BoolVar(&s.check, "check", true, "hold every log against the server's at the end")
	flags.BoolVar(&s.json, "json", false, "print the summary as one JSON object")
	return cmd
}

// listProfiles prints the machines that agents can have.
func (env *environment) listProfiles() error {
	_, err := fmt.Fprintln(env.stdout, strings.Join(fleet.Profiles(), "\n"))
	return err
}

// simulateServer returns the client that all agents share.
func (env *environment) simulateServer(s *simulation) (*kittapi.Client, error) {
	given := map[string]string{"token": s.token}
	if s.token == "" {
		delete(given, "token")
	}
	if err := env.readToken(given, initFlags{tokenFile: s.tokenFile}); err != nil {
		return nil, err
	}
	s.server = cmp.Or(s.server, env.getenv("KITT_SERVER"))
	if s.server == "" {
		return nil, usageError("kitt-agent simulate --server http://127.0.0.1:8080", "--server is missing")
	}
	return kittapi.New(kittapi.Config{
		URL:         s.server,
		Token:       agent.Secret(cmp.Or(given["token"], env.getenv("KITT_TOKEN"))),
		ServerToken: agent.Secret(cmp.Or(s.serverToken, env.getenv("KITT_SERVER_TOKEN"))),
		CAFile:      cmp.Or(s.ca, env.getenv("KITT_TLS_CA")),
		Insecure:    s.insecure,
		UserAgent:   "kitt-agent-simulate/" + thisBuild().Version,
		Proxy:       http.ProxyFromEnvironment,
	})
}

// config returns the fleet that s describes, without its server and directory.
// changed says which flags were given, stdin is what --fleet - reads.
func (s *simulation) config(changed func(flag string) bool, stdin io.Reader) (fleet.Config, error) {
	wrong := func(format string, args ...any) (fleet.Config, error) {
		return fleet.Config{}, usageError("kitt-agent simulate --count 10 --profile h100-8", format, args...)
	}
	cfg := fleet.Config{
		Prefix: s.prefix, Seed: s.seed, Speed: s.speed, Interval: s.interval, Ramp: s.ramp, MaxInFlight: s.inFlight,
		Version: thisBuild().Version,
	}
	var err error
	if cfg.Scenario, err = simulated.ParseScenario(s.scenario); err != nil {
		return wrong("--%s", err)
	}
	switch {
	case s.jobs < 0 || s.jobs > maxJobs:
		return wrong("--jobs is %d, not from 0 to %d", s.jobs, maxJobs)
	case s.inFlight < 1 || s.inFlight > maxInFlight:
		return wrong("--in-flight is %d, not from 1 to %d", s.inFlight, maxInFlight)
	case s.duration < 0 || s.ramp < 0:
		return wrong("--duration and --ramp cannot be negative")
	case math.IsNaN(s.speed) || s.speed < 0 || s.speed > 1000:
		return wrong("--speed is %v, not from 0 to 1000", s.speed)
	}
	if err := checkSuite("kitt-agent simulate", s.suite); err != nil {
		return fleet.Config{}, err
	}
	if s.plan != "" {
		for _, flag := range []string{"count", "profile", "gpu", "gpus", "cpu", "arch", "ram", "environment"} {
			if changed(flag) {
				return wrong("--fleet and --%s exclude each other", flag)
			}
		}
		return s.planned(cfg, changed, stdin)
	}
	cfg.Groups, err = s.groups()
	return cfg, err
}

const (
	maxJobs     = 1000 // tests that may be launched on each agent
	maxInFlight = 4096
)

// groups returns the groups that flags describe.
func (s *simulation) groups() ([]fleet.Group, error) {
	if s.count < 1 || s.count > fleet.MaxAgents {
		return nil, usageError("kitt-agent simulate --count 10", "--count is %d, not from 1 to %d", s.count, fleet.MaxAgents)
	}
	profiles := s.profiles
	if len(profiles) == 0 {
		profiles = []string{fleet.RandomProfile}
	}
	var groups []fleet.Group
	for _, p := range profiles {
		g := fleet.Group{Count: s.count, Hardware: s.hardware}
		name, number, numbered := strings.Cut(p, "=")
		if numbered {
			n, err := strconv.Atoi(number)
			if err != nil || n < 1 || n > fleet.MaxAgents {
				return nil, usageError("kitt-agent simulate --profile h100-8=20", "--profile %s: %s is not a number from 1 to %d", quote(p), quote(number), fleet.MaxAgents)
			}
			g.Count = n
		}
		g.Profile = name
		groups = append(groups, g)
	}
	return groups, nil
}

// planned returns the fleet that the file of --fleet describes. Flags that were
// given go before what the file says for the whole fleet.
func (s *simulation) planned(cfg fleet.Config, changed func(flag string) bool, in io.Reader) (fleet.Config, error) {
	if s.plan != "-" {
		f, err := os.Open(s.plan)
		if err != nil {
			return fleet.Config{}, fmt.Errorf("--fleet: %w", err)
		}
		defer f.Close()
		in = f
	}
	p, err := fleet.ReadPlan(in)
	if err != nil {
		return fleet.Config{}, fmt.Errorf("--fleet %s: %w", quote(s.plan), err)
	}
	cfg.Groups = p.Groups
	if p.Prefix != "" && !changed("prefix") {
		cfg.Prefix = p.Prefix
	}
	if p.Seed != 0 && !changed("seed") {
		cfg.Seed = p.Seed
	}
	if p.Speed != nil && !changed("speed") {
		cfg.Speed = *p.Speed
	}
	if !changed("scenario") {
		cfg.Scenario = p.Scenario
	}
	return cfg, nil
}
