// Package config reads and writes agent.yaml and says which settings are in
// force.
//
// A setting comes from, the later the weaker: a flag of the command line, an
// environment variable, the file, its default. [Resolve] is the one place where
// they meet; [Config] is the outcome, and [Config.Origin] says where each value
// came from. [File] is the file itself: it keeps comments, order and unknown
// keys when a command rewrites it. [Keys] lists every setting with its variable,
// default and meaning.
//
// Files of the Python agent load unchanged.
package config

import (
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/runner/simulated"
	"github.com/kirizan/kitt-agent/storage"
)

// A Config is the settings in force.
type Config struct {
	Name        string       // the agent's identity at the server; defaults to the host name
	ServerURL   string       // without a trailing slash; empty if none is configured
	Token       agent.Secret // the agent's own
	ServerToken agent.Secret // the operator's; only needed where the server has one

	Port   int    // of the agent's HTTP API
	Listen string // address that the API listens on; empty lets ListenAddress choose

	// AllowedHosts are names under which callers may reach the API, in addition
	// to addresses, localhost and the machine's name.
	AllowedHosts []string

	Metrics       *bool  // whether GET /metrics is served; nil where nothing names it. See ServesMetrics
	MetricsListen string // host:port that serves it apart from the API; empty for the API itself

	Page bool // whether the API serves the page for people too

	TLS               TLS
	Insecure          bool // --insecure: the server's certificate is not verified; no key sets it
	RequireClientCert bool // whether callers of the API must show a certificate of TLS.CA's

	ModelStorageDir   string
	ModelShareSource  string
	ModelShareMount   string
	AutoCleanup       *bool // nil where neither file nor variable names it
	Models            Models
	KITTImage         string
	HeartbeatInterval time.Duration // 0 where it isn't named

	Notify Notify // what a web hook is told

	DiskLow int64 // bytes free on a disk below which the agent is degraded; 0 for never

	Runner            string // auto, docker, process, simulated or slurm
	Simulated         Simulated
	Slurm             Slurm
	GPUs              string // auto, all or none
	GPUSets           [][]string
	GPUsPerJob        int // 0 for all
	Exclusive         bool
	AllowedImages     []string
	Policy            Policy
	MaxConcurrentJobs int // 0 for the agent's default
	StopGrace         time.Duration
	MaxJobDuration    time.Duration // 0 for no limit
	DrainTimeout      time.Duration
	Retention         Retention
	Limits            Limits
	Integrity         Integrity
	Supervisor        string
	Engines           Engines
	Env               map[string]Reference // what benchmarks find in their environment

	// UpdateKey is the Ed25519 public key that updates must be signed with, in
	// base64; empty if there is none.
	UpdateKey string

	Log Log

	// Home is the directory of the agent's own files: KITT_HOME or ~/.kitt.
	Home string

	// Path is the file that was read, or would have been.
	Path string

	origins map[string]noted // by the names of keys that are set
}

// TLS names the files of the agent's certificate. They may begin with ~.
type TLS struct {
	Cert, Key, CA string
}

// Simulated says how benchmarks go that are only played.
type Simulated struct {
	Speed    float64 // factor on the delays between lines; 0 leaves them out
	Scenario simulated.Scenario
}

// Slurm says how jobs are submitted to Slurm. See slurm.Config.
type Slurm struct {
	Partition, Account, QOS string
	Time                    time.Duration // 0 for the partition's
	GPUs                    int           // of each job
	GPUType                 string        // empty for any
	Exclusive               bool
	Args                    []string // further options of sbatch
	SharedDir               string   // may begin with ~; empty for Home
	NodeDir                 string   // empty leaves models on the shared file system
	Container               string   // none, docker or podman
	Command                 []string // in place of Container
}

// ContainerPolicy says what the containers of a benchmark are like.
type ContainerPolicy struct {
	Network       string   // host or job
	User          string   // as docker run --user takes it, or image; empty for the default
	CapAdd        []string // names without CAP_
	Pids          int      // processes and threads
	MemoryPercent int      // of the machine's RAM; 0 for no limit
	ReadOnlyRoot  bool
}

// Models bounds the copies of models, and how they are made.
type Models struct {
	MaxSize      int64 // bytes of all copies together; 0 for no limit
	KeepFree     int64 // bytes of the disk that stay free
	Streams      int   // parts of large files that are copied at once from a network
	ShareTimeout time.Duration
	Dirs         []string // within which links of models on this machine may lead anywhere
}

// Retention bounds what is kept of jobs whose reports were delivered.
type Retention struct {
	MaxAge  time.Duration
	MaxSize int64 // bytes
}

// Limits bound what one benchmark, and the callers of the API, may take.
type Limits struct {
	Log         int64 // bytes of a benchmark's output on the disk; 0 for no limit
	Connections int   // to the API
	Followers   int   // readers of logs over the API
}

// Notify says what is sent to which web hook.
type Notify struct {
	URL     Reference // secret; empty for none
	Key     Reference // secret; empty for no signature
	Events  []string  // nil for the default
	Format  string    // json, slack or cloudevents
	PerHour int
}

// Policy is what the owner allows the server and a benchmark. A nil list is one that nothing names.
type Policy struct {
	ServerMaySet []string
	StorageDirs  []string
	Shares       []string
	ModelDirs    []string
	ProfileKeys  []string
	Engines      EnginePolicy
	Images       []string

	EngineSocket string   // proxy, host or none
	EngineImages []string // nil for those of KITT's engines
	Caches       []string // directories; they may begin with ~
	Container    ContainerPolicy
}

// Log says what the agent logs and how.
type Log struct {
	Level  slog.Level
	Format string // auto, text or json
}

// Origin says where the value of a key comes from, for a person: a flag, a
// variable, a line of the file, or "default".
func (c *Config) Origin(key string) string {
	if o, ok := c.origins[key]; ok {
		return o.origin
	}
	return "default"
}

// ServesTLS reports whether the agent's API is served over TLS.
func (c *Config) ServesTLS() bool { return c.TLS.Cert != "" && c.TLS.Key != "" }

// ServesMetrics reports whether the agent serves metrics: by default where its API is
// plain HTTP, or where they have an address of their own.
func (c *Config) ServesMetrics() bool {
	if c.Metrics != nil {
		return *c.Metrics
	}
	return !c.ServesTLS() || c.MetricsListen != ""
}

// ListenAddress returns host:port for the agent's API. Unless Listen says
// otherwise an agent with a token listens everywhere, one without a token on
// this machine only.
func (c *Config) ListenAddress() string {
	host := c.Listen
	if host == "" && c.Token == "" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, strconv.Itoa(c.Port))
}

// LocalURL returns where a program on this machine reaches the agent's API.
func (c *Config) LocalURL() string {
	host := c.Listen
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	scheme := "http"
	if c.ServesTLS() {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, strconv.Itoa(c.Port))
}

// PIDFile returns the path of the file that names the running agent's process.
func (c *Config) PIDFile() string { return filepath.Join(c.Home, "agent.pid") }

// LogFile returns the path of the agent's own log.
func (c *Config) LogFile() string { return filepath.Join(c.Home, "logs", "agent.log") }

// AuditFile returns the path of the audit trail: who asked the agent for what.
func (c *Config) AuditFile() string { return filepath.Join(c.Home, "logs", "audit.jsonl") }

// Expand returns path with a leading ~ replaced by the user's home directory.
// The path comes back as it was where there is none.
func Expand(path string) string {
	if path != "~" && !strings.HasPrefix(path, "~/") {
		return path
	}
	home, err := storage.HomeDir()
	if err != nil {
		return path
	}
	return filepath.Join(home, strings.TrimPrefix(path, "~"))
}
