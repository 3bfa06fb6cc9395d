package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/agent/health"
	"github.com/kirizan/kitt-agent/agent/internal/connlimit"
	"github.com/kirizan/kitt-agent/agent/internal/gpusets"
	"github.com/kirizan/kitt-agent/agent/policy"
	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/hwdetect/integrity"
	"github.com/kirizan/kitt-agent/internal/rules"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/engine"
	"github.com/kirizan/kitt-agent/storage"
)

// GPUPolicy says whether a benchmark is given the machine's GPUs.
type GPUPolicy string

// The GPU policies. The empty one means GPUAuto.
const (
	GPUAuto GPUPolicy = "auto" // all, if the detector found any
	GPUAll  GPUPolicy = "all"  // all, even if none was found
	GPUNone GPUPolicy = "none" // none
)

// Config says what an Agent is made of and how it behaves. Name, Dir, Server
// and Runner are required; the zero value of everything else means its default.
type Config struct {
	// Name is the agent's identity at the server. It is not empty and has no
	// slash, which the server's addresses could not carry.
	Name string

	// Version is what the agent calls itself to the server.
	Version string

	// Dir is where the agent keeps its jobs, in a directory named jobs. One
	// agent at a time uses a Dir.
	Dir string

	// Server gives work, Reporter is told what becomes of it. Without a
	// Reporter the Server is used, if it is one. Otherwise nothing is reported, and
	// results stay in Dir. A Reporter that is a Checker, an Inquirer, a TestFinder
	// or an EncodedReporter too is used as such.
	Server   Server
	Reporter reporter.Reporter

	// Runner runs benchmarks. One that is a [runner.Resumer], Cleaner, Sweeper or
	// ContainerRunner too is used as such.
	//
	// An error of its, or of the Storage's, is the reason that a job's report
	// gives. If it is a [fault.Classified], as a [runner.Error] is, its class and
	// fix are those of the JobStatus.
	Runner runner.Runner

	// Storage brings models to local disk. Without one, models are used where
	// they are. One that is a [storage.Configurer] is told the settings in force
	// as they change; they begin with its own, where Settings names no others. So
	// such a one serves one agent; the models of several may lie in one directory.
	Storage storage.Storage

	// Detector describes the machine. Without one, the agent tells the server
	// its host name and nothing else.
	Detector hwdetect.Detector

	// Listener is where the agent serves its HTTP API while it runs; nil serves
	// none (a program may still serve Agent.Handler itself). With TLS set it is
	// served over TLS. Run closes it.
	Listener net.Listener
	TLS      *tls.Config

	// Port is the port that the server is told, where it differs from the
	// Listener's: from 1 to 65535. Defaults to the Listener's, or to 0.
	Port int

	// Metrics, if set, is served by the API at GET /metrics, to everybody that reaches
	// the API. Package agent/metrics has one for Prometheus.
	Metrics http.Handler
	// Page, if set, returns what the API serves at paths that it doesn't have itself.
	// New calls it once. The requests have passed the checks that Handler describes,
	// but not that of the token: see Agent.Admits. Package agent/webpage has a page for
	// people.
	Page func(*Agent) http.Handler

	// Token is what callers of the API present. While it is empty only callers
	// on this machine are let in.
	Token Secret

	// ReadToken, if set, returns Token as it is now. It is called when a caller
	// presents another one than the one in force, at most once a second.
	ReadToken func() Secret

	// AllowedHosts are the names, without a port, under which callers may reach
	// the API, in addition to any address, localhost and the machine's own name.
	// Capital letters make no difference. See Agent.Handler.
	AllowedHosts []string

	// MaxConnections is how many connections to Listener are open at most, and
	// MaxFollowers how many readers follow logs over HTTP at once. They default to
	// 2,048 and 1,100, and are never more than half of the files that this process
	// may open (RLIMIT_NOFILE). An eighth of the connections is for callers on this
	// machine. Callers beyond are refused.
	MaxConnections, MaxFollowers int

	// Settings are those of the machine's own configuration. The server's
	// override them by the rules of Settings.
	Settings Settings

	// GPUs says whether a benchmark is given the machine's GPUs.
	GPUs GPUPolicy

	// GPUSets gives each benchmark GPUs of its own, so that several run at once. The
	// default gives each one all GPUs.
	GPUSets GPUSets

	// Exclusive has each benchmark wait until no other one runs, as the key exclusive
	// of a command's payload does for one benchmark.
	Exclusive bool

	// AllowedImages are the container images that the server may choose, as
	// patterns of path.Match, such as registry.example/kitt*. Empty allows any
	// image that is on the machine.
	AllowedImages []string

	// Policy limits which settings the server may change, and to what. Settings and
	// what a Configurer was made with are always allowed. The zero Policy limits
	// nothing; policy.Default is that of kitt-agent. A storage.Local asks the policy
	// at the moment of use only if its Config names the policy's methods.
	Policy policy.Policy

	// Audit, if set, is called for each command, each setting that the server changes
	// and each request of the API that stops something or is refused. It may be called
	// concurrently, and returns at once.
	Audit func(policy.Entry)

	// MaxConcurrentJobs is how many benchmarks run at once, from 1 to 1024.
	// Defaults to 1, since benchmarks that share a machine disturb each other, or with
	// GPUSets to as many as there are sets.
	MaxConcurrentJobs int

	// Integrity says whether and how the state of the machine is recorded during
	// benchmarks. Without a Source nothing is recorded.
	Integrity Integrity

	// CheckEnginePort has a benchmark refused while another process holds the port on
	// which KITT starts its engine: that server would be measured in place of the
	// requested model. It is for benchmarks whose engines use this machine's network.
	CheckEnginePort bool

	// StopGrace is what a cancelled benchmark gets between the polite signal
	// and the kill. Defaults to 10 s.
	StopGrace time.Duration

	// MaxJobDuration ends a benchmark that runs longer. Defaults to no limit.
	MaxJobDuration time.Duration

	// DrainTimeout is how long Run continues to deliver reports after its context
	// has ended. Defaults to 10 s.
	DrainTimeout time.Duration

	// RecoverWithin is how old a command may be that the server handed out and
	// the agent never received, if it is still to be run. Defaults to 24 h;
	// negative runs none.
	RecoverWithin time.Duration

	// Keep bounds what is kept of jobs that were delivered.
	Keep Retention

	// Secrets are texts that nobody may see. They are replaced in jobs' logs,
	// results and errors, and in what the agent logs. See [logstream.NewRedactor].
	Secrets []string

	// Engines manages the engines that are installed on the machine itself. It is asked
	// for their state every 30 s, and has 10 s: after that the agent continues with what
	// it knew before. The default looks for them, and starts none.
	Engines engine.Manager

	// OnConflict says what becomes of a benchmark that needs the GPUs that an engine
	// holds which the agent started. The zero value fails it, with the remedy.
	OnConflict EngineConflict

	// Warnings, if set, returns sentences that Status shows in addition to the
	// agent's own, such as one about a certificate that will expire. It is called
	// for each Status. One that takes longer than 200 ms has its last answer
	// shown instead.
	Warnings func(ctx context.Context) []string

	// Remarks, if set, returns sentences that end the log of a job with a result, such
	// as how that differs from a baseline. jobDir is the job's directory, with its
	// report and results; see package agent/results. It is called while the job ends and
	// has 2 s: after that the job ends without remarks. Its error is logged and concerns
	// no job.
	Remarks func(ctx context.Context, jobDir string) ([]string, error)

	// Problems, if set, returns what is wrong in addition to what the agent finds by
	// itself, such as a certificate that has expired. It is called as Warnings is.
	Problems func(ctx context.Context) []health.Problem

	// DiskLow is how many bytes are to be free on the disks with the models and the
	// jobs. With less the agent is degraded, though it works on. Defaults to 2 GiB;
	// negative for never.
	DiskLow int64

	// Logger receives what an operator wants to know. Defaults to none.
	Logger *slog.Logger
}

// GPUSets says which sets of GPUs there are: either a list of them, whose elements are
// UUIDs of GPUs or MIG instances, or indexes of GPUs; or how many devices each benchmark
// gets, which are then as close to each other as possible.
type GPUSets = gpusets.Config

// MaxGPUsPerJob is the most devices that GPUSets.PerJob may name.
const MaxGPUsPerJob = gpusets.MaxPerJob

// CheckGPUName returns what is wrong with the name of a device in GPUSets.Sets.
func CheckGPUName(name string) error { return gpusets.CheckName(name) }

// Integrity says how the state of the machine is recorded during benchmarks, so that
// each result says whether the machine was fit to be measured. The files integrity.json
// and telemetry.csv are written to the job's directory, which benchmarks in containers
// cannot reach, and copied to its results afterwards.
type Integrity struct {
	// Source reads the machine, as [integrity.Machine] does. Nil records nothing.
	Source integrity.Source

	// Interval is the time between two samples, from 100 ms to 1 min. Defaults to
	// 1 s.
	Interval time.Duration

	// Rules judge runs. Defaults to [integrity.DefaultRules].
	Rules []integrity.Rule

	// Judges judge runs in addition to Rules.
	Judges []integrity.Judge

	// FailInvalid makes a job fail whose run is invalid. Its figures are kept and
	// reported all the same.
	FailInvalid bool

	// WaitIdle is the longest time that a benchmark waits while processes of others use
	// more than 1% of a GPU's SMs. The Runner must be a [runner.Owner], and the Source
	// a [hwdetect.ProcessReader]. Defaults to 2 min; negative never waits.
	WaitIdle time.Duration

	// WaitCool is the temperature in °C that the GPUs are to have at most before a
	// benchmark begins. Defaults to any.
	WaitCool float64

	// WaitCoolLimit is the longest wait for that. Defaults to 10 min.
	WaitCoolLimit time.Duration
}

func (i Integrity) withDefaults() Integrity {
	if i.WaitIdle == 0 {
		i.WaitIdle = 2 * time.Minute
	}
	if i.WaitCoolLimit == 0 {
		i.WaitCoolLimit = 10 * time.Minute
	}
	return i
}

// recorder returns what records runs, and calls sampled with each sample; nil without a
// Source.
func (i Integrity) recorder(log *slog.Logger, sampled func(integrity.Sample)) (*integrity.Recorder, error) {
	if i.Source == nil {
		return nil, nil
	}
	return integrity.NewRecorder(integrity.RecorderConfig{
		Source: i.Source, Interval: i.Interval, Rules: i.Rules, Judges: i.Judges, Sampled: sampled, Logger: log,
	})
}

// Retention bounds what is kept of delivered jobs: their logs and results. What
// was not delivered is kept whatever the bounds.
type Retention struct {
	MaxAge   time.Duration // since the job ended; defaults to 30 days
	MaxBytes int64         // of all delivered jobs together; defaults to 2 GiB
}

// withDefaults returns cfg with defaults in place of zero values.
func (cfg Config) withDefaults() Config {
	if cfg.Reporter == nil {
		if r, ok := cfg.Server.(reporter.Reporter); ok {
			cfg.Reporter = r
		}
	}
	if cfg.Storage == nil {
		cfg.Storage = inPlace{}
	}
	if cfg.Engines == nil {
		cfg.Engines = engine.ReadOnly{Finder: engine.NewFinder(engine.FinderConfig{})}
	}
	if cfg.GPUs == "" {
		cfg.GPUs = GPUAuto
	}
	if cfg.MaxConcurrentJobs == 0 {
		cfg.MaxConcurrentJobs = 1
		if cfg.GPUSets.Enabled() {
			cfg.MaxConcurrentJobs = rules.MaxJobs
		}
	}
	if cfg.MaxConnections == 0 {
		cfg.MaxConnections = connlimit.DefaultConnections
	}
	if cfg.MaxFollowers == 0 {
		cfg.MaxFollowers = connlimit.DefaultFollowers
	}
	if cfg.StopGrace == 0 {
		cfg.StopGrace = runner.DefaultStopGrace
	}
	if cfg.DrainTimeout == 0 {
		cfg.DrainTimeout = 10 * time.Second
	}
	if cfg.RecoverWithin == 0 {
		cfg.RecoverWithin = 24 * time.Hour
	}
	if cfg.Keep.MaxAge == 0 {
		cfg.Keep.MaxAge = 30 * 24 * time.Hour
	}
	if cfg.Keep.MaxBytes == 0 {
		cfg.Keep.MaxBytes = 2 << 30
	}
	if cfg.DiskLow == 0 {
		cfg.DiskLow = 2 << 30
	}
	cfg.Integrity = cfg.Integrity.withDefaults()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return cfg
}

// validate returns all that is wrong with cfg.
func (cfg Config) validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if err := rules.Name(cfg.Name); strings.TrimSpace(cfg.Name) == "" {
		fault("Name is empty")
	} else if err != nil {
		fault("Name %q %s", cfg.Name, strings.TrimPrefix(err.Error(), "it "))
	}
	if cfg.Dir == "" {
		fault("Dir is empty")
	}
	if cfg.Server == nil {
		fault("Server is missing")
	}
	if cfg.Runner == nil {
		fault("Runner is missing")
	}
	if cfg.MaxConcurrentJobs < 1 || cfg.MaxConcurrentJobs > rules.MaxJobs {
		fault("MaxConcurrentJobs is %d, not from 1 to %d", cfg.MaxConcurrentJobs, rules.MaxJobs)
	}
	for _, pattern := range cfg.AllowedImages {
		if err := rules.ImagePattern(pattern); err != nil {
			fault("AllowedImages: %w", err)
		}
	}
	if err := cfg.Policy.Validate(); err != nil {
		fault("Policy: %w", err)
	}
	for _, name := range cfg.AllowedHosts {
		if err := rules.Host(name); err != nil {
			fault("AllowedHosts: %w", err)
		}
	}
	switch cfg.GPUs {
	case GPUAuto, GPUAll, GPUNone:
	default:
		fault("GPUs is %q, not auto, all or none", cfg.GPUs)
	}
	if cfg.GPUs == GPUNone && cfg.GPUSets.Enabled() {
		fault("GPUs is none, and GPUSets gives benchmarks some")
	}
	if cfg.Port < 0 || cfg.Port > 65535 {
		fault("Port is %d, not from 1 to 65535", cfg.Port)
	}
	if cfg.TLS != nil && len(cfg.TLS.Certificates) == 0 && cfg.TLS.GetCertificate == nil && cfg.TLS.GetConfigForClient == nil {
		fault("TLS has no certificate")
	}
	if cfg.MaxConnections < 0 || cfg.MaxFollowers < 0 {
		fault("MaxConnections is %d and MaxFollowers %d; neither is negative", cfg.MaxConnections, cfg.MaxFollowers)
	}
	negative := func(field string, d time.Duration) {
		if d < 0 {
			fault("%s is %s, which is negative", field, d)
		}
	}
	negative("StopGrace", cfg.StopGrace)
	negative("OnConflict.Wait", cfg.OnConflict.Wait)
	negative("MaxJobDuration", cfg.MaxJobDuration)
	negative("DrainTimeout", cfg.DrainTimeout)
	negative("Integrity.WaitCoolLimit", cfg.Integrity.WaitCoolLimit)
	if w := cfg.Integrity.WaitCool; !(w >= 0 && w <= 200) {
		fault("Integrity.WaitCool is %g, not from 0 to 200 °C", w)
	}
	negative("Keep.MaxAge", cfg.Keep.MaxAge)
	if cfg.Keep.MaxBytes < 0 {
		fault("Keep.MaxBytes is %d, which is negative", cfg.Keep.MaxBytes)
	}
	return errors.Join(faults...)
}

// port returns the port that the server is told.
func (cfg Config) port() int {
	if cfg.Port != 0 || cfg.Listener == nil {
		return cfg.Port
	}
	if addr, ok := cfg.Listener.Addr().(*net.TCPAddr); ok {
		return addr.Port
	}
	return 0
}

// inPlace is the storage of an agent without one: models are used where they are.
type inPlace struct{}

func (inPlace) Acquire(_ context.Context, req storage.Request) (*storage.Lease, error) {
	origin := storage.OriginIdentifier
	if strings.HasPrefix(req.Model, "/") {
		origin = storage.OriginInPlace
	}
	return storage.NewLease(req.Model, origin, nil), nil
}

func (inPlace) Evict(context.Context, string) (storage.Eviction, error) {
	return storage.Eviction{}, nil
}

func (inPlace) Usage(context.Context) (storage.Usage, error) { return storage.Usage{}, nil }
