package config

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/notify"
	"github.com/kirizan/kitt-agent/agent/policy"
	"github.com/kirizan/kitt-agent/internal/rules"
	"github.com/kirizan/kitt-agent/runner/docker/socketproxy"
	"github.com/kirizan/kitt-agent/runner/slurm"
	"github.com/kirizan/kitt-agent/storage"
)

// A Key describes one setting.
type Key struct {
	Name    string // in agent.yaml; a dot stands for nesting
	Env     string // the environment variable; empty if there is none
	Allowed string // what the value may be
	Default string // empty for none
	Meaning string
	Secret  bool // whether the value must not be seen

	// Alias is a variable of KITT's own that means the same, empty if there is none. It
	// counts where Env is not set.
	Alias string

	set func(c *Config, value *yaml.Node) error
}

// Variable returns the environment variable that sets the key, and its value; an empty
// value if none does.
func (k *Key) Variable(getenv func(string) string) (name, value string) {
	for _, name := range k.Variables() {
		if value := getenv(name); value != "" {
			return name, value
		}
	}
	return k.Env, ""
}

// Variables returns the names of the environment variables that set the key, the
// strongest first.
func (k *Key) Variables() (names []string) {
	for _, name := range []string{k.Env, k.Alias} {
		if name != "" {
			names = append(names, name)
		}
	}
	return names
}

// Keys returns every setting, in the order in which a person would read them.
func Keys() []Key { return slices.Clone(keys) }

var keys = slices.Concat(agentKeys, modelKeys, runnerKeys, slurmKeys, limitKeys, integrityKeys(), engineKeys(), policyKeys, notifyKeys, programKeys)

// agentKeys are the settings of the agent itself: its server, API and certificate.
var agentKeys = []Key{
	{Name: "name", Env: "KITT_NAME", Allowed: "a text without slashes", Default: "the host name",
		Meaning: "the agent's identity at the server",
		set:     text(func(c *Config) *string { return &c.Name }, rules.Name)},
	{Name: "server_url", Env: "KITT_SERVER", Alias: "KITT_SERVER_URL", Allowed: "an http or https address",
		Meaning: "the KITT server",
		set:     serverURL},
	{Name: "token", Env: "KITT_TOKEN", Secret: true, Allowed: "printable ASCII without blanks",
		Meaning: "the agent's own token, for the server and for callers of the agent's API",
		set:     secret(func(c *Config) *agent.Secret { return &c.Token })},
	{Name: "server_token", Env: "KITT_SERVER_TOKEN", Alias: "KITT_AUTH_TOKEN", Secret: true, Allowed: "printable ASCII without blanks",
		Meaning: "the server's own token, without which a server that has one takes neither log nor status",
		set:     secret(func(c *Config) *agent.Secret { return &c.ServerToken })},
	{Name: "port", Env: "KITT_PORT", Allowed: "1 to 65535", Default: "8090",
		Meaning: "port of the agent's HTTP API",
		set:     integer(func(c *Config) *int { return &c.Port }, 1, 65535)},
	{Name: "listen", Env: "KITT_LISTEN", Allowed: "an IP address or localhost", Default: "all addresses with a token, 127.0.0.1 without",
		Meaning: "address that the agent's HTTP API listens on",
		set:     text(func(c *Config) *string { return &c.Listen }, checkListen)},
	{Name: "allowed_hosts", Allowed: "a list of host names without ports", Default: "none",
		Meaning: "names under which callers may reach the API, in addition to addresses, localhost and this machine's name",
		set:     list(func(c *Config) *[]string { return &c.AllowedHosts }, rules.Host)},
	{Name: "metrics", Env: "KITT_METRICS", Allowed: "true or false", Default: "true, or false with tls.cert",
		Meaning: "whether GET /metrics gives the agent's state to Prometheus, without a token",
		set:     boolean(func(c *Config, v bool) { c.Metrics = &v })},
	{Name: "metrics_listen", Env: "KITT_METRICS_LISTEN", Allowed: "an IP address or localhost, a colon and a port, or :port for all addresses", Default: "the address of the API",
		Meaning: "address that serves /metrics, in plain HTTP, in place of the API",
		set:     text(func(c *Config) *string { return &c.MetricsListen }, checkHostPort)},
	{Name: "page", Env: "KITT_PAGE", Allowed: "true or false", Default: "true",
		Meaning: "whether the agent's API serves a page for people too, which asks for the token",
		set:     boolean(func(c *Config, v bool) { c.Page = v })},
	{Name: "tls.cert", Env: "KITT_TLS_CERT", Allowed: "an absolute path, or one that begins with ~/",
		Meaning: "the agent's certificate, for the server and for its own API",
		set:     text(func(c *Config) *string { return &c.TLS.Cert }, rules.Path)},
	{Name: "tls.key", Env: "KITT_TLS_KEY", Allowed: "an absolute path, or one that begins with ~/",
		Meaning: "the certificate's private key",
		set:     text(func(c *Config) *string { return &c.TLS.Key }, rules.Path)},
	{Name: "tls.ca", Env: "KITT_TLS_CA", Allowed: "an absolute path, or one that begins with ~/", Default: "the system's",
		Meaning: "the authority that signed the server's certificate",
		set:     text(func(c *Config) *string { return &c.TLS.CA }, rules.Path)},
	{Name: "require_client_cert", Env: "KITT_REQUIRE_CLIENT_CERT", Allowed: "true or false", Default: "false",
		Meaning: "whether callers of the agent's API must show a certificate of tls.ca",
		set:     boolean(func(c *Config, v bool) { c.RequireClientCert = v })},
}

// modelKeys are the settings of models and of the disk with them.
var modelKeys = []Key{
	{Name: "model_storage_dir", Env: "KITT_MODEL_DIR", Allowed: "an absolute path, or one that begins with ~/", Default: "~/.kitt/models",
		Meaning: "where copies of models are kept",
		set:     text(func(c *Config) *string { return &c.ModelStorageDir }, rules.Path)},
	{Name: "model_share_source", Env: "KITT_SHARE_SOURCE", Allowed: "host:/directory",
		Meaning: "the share that models are copied from",
		set:     text(func(c *Config) *string { return &c.ModelShareSource }, rules.Share)},
	{Name: "model_share_mount", Env: "KITT_SHARE_MOUNT", Allowed: "an absolute path, or one that begins with ~/",
		Meaning: "where the share is mounted",
		set:     text(func(c *Config) *string { return &c.ModelShareMount }, rules.Path)},
	{Name: "auto_cleanup", Env: "KITT_AUTO_CLEANUP", Allowed: "true or false", Default: "true",
		Meaning: "whether the agent's copy of a model goes when nobody needs it any more",
		set:     boolean(func(c *Config, v bool) { c.AutoCleanup = &v })},
	{Name: "models.max_size", Env: "KITT_MODELS_MAX_SIZE", Allowed: "0 for no limit, or 1MiB or more", Default: "0",
		Meaning: "how much disk all copies of models may fill; the least recently used go first",
		set:     sizeOrZero(func(c *Config) *int64 { return &c.Models.MaxSize }, 1<<20)},
	{Name: "models.keep_free", Env: "KITT_MODELS_KEEP_FREE", Allowed: "0, or a size such as 50GiB", Default: "0",
		Meaning: "how much of the disk copies of models leave free",
		set:     size(func(c *Config) *int64 { return &c.Models.KeepFree }, 0)},
	{Name: "models.streams", Env: "KITT_MODELS_STREAMS", Allowed: "1 to 64", Default: "16",
		Meaning: "parts of large files that are copied at once from a share on a network",
		set:     integer(func(c *Config) *int { return &c.Models.Streams }, 1, storage.MaxWorkers)},
	{Name: "models.share_timeout", Env: "KITT_MODELS_SHARE_TIMEOUT", Allowed: "1s to 1h", Default: "30s",
		Meaning: "how long one operation on the share, or mounting it, may take",
		set:     duration(func(c *Config) *durationOf { return &c.Models.ShareTimeout }, second, hour)},
	{Name: "models.dirs", Allowed: "a list of absolute paths, or ones that begin with ~/", Default: "none",
		Meaning: "directories within which symbolic links of models on this machine may lead anywhere",
		set:     list(func(c *Config) *[]string { return &c.Models.Dirs }, rules.Path)},
	{Name: "disk_low", Env: "KITT_DISK_LOW", Allowed: "0 for never, or 1MiB or more", Default: "2GiB",
		Meaning: "the agent is degraded while less than this is free on a disk with models or jobs",
		set:     sizeOrZero(func(c *Config) *int64 { return &c.DiskLow }, 1<<20)},
}

// runnerKeys are the settings of what runs benchmarks.
var runnerKeys = []Key{
	{Name: "kitt_image", Env: "KITT_IMAGE", Allowed: "an image reference", Default: "kitt:latest",
		Meaning: "container image that benchmarks run in",
		set:     text(func(c *Config) *string { return &c.KITTImage }, rules.Image)},
	{Name: "allowed_images", Allowed: "a list of patterns, such as registry.example/kitt*", Default: "policy.images",
		Meaning: "images that the server may choose, as policy.images; here no * stands for a text with a slash",
		set:     list(func(c *Config) *[]string { return &c.AllowedImages }, rules.ImagePattern)},
	{Name: "heartbeat_interval_s", Env: "KITT_HEARTBEAT_INTERVAL", Allowed: "10 to 300", Default: "30",
		Meaning: "seconds between heartbeats",
		set:     heartbeatInterval},
	{Name: "runner", Env: "KITT_RUNNER", Allowed: "auto, docker, process, simulated or slurm", Default: "auto",
		Meaning: "how benchmarks run; auto takes a container, and the local kitt where there is no image, or no Docker on the machine; slurm submits to a cluster",
		set:     word(func(c *Config) *string { return &c.Runner }, "auto", "docker", "process", "simulated", "slurm")},
	{Name: "simulated.speed", Env: "KITT_SIMULATED_SPEED", Allowed: "0 for none, or up to 1000", Default: "1",
		Meaning: "factor on the delays of simulated benchmarks, which are 0.5 to 1.5 s a line",
		set:     simulatedSpeed},
	{Name: "simulated.scenario", Env: "KITT_SIMULATED_SCENARIO", Allowed: "words such as fail-at=engine, oom, slow=2", Default: "a run that goes well",
		Meaning: "what goes wrong in simulated benchmarks",
		set:     simulatedScenario},
	{Name: "supervisor", Env: "KITT_SUPERVISOR", Allowed: "an absolute path, or one that begins with ~/", Default: "found by the agent",
		Meaning: "static kitt-supervise that runs in front of benchmarks in containers",
		set:     text(func(c *Config) *string { return &c.Supervisor }, rules.Path)},
	{Name: "env", Allowed: "names, each with a value, $NAME, file:/path, or {value: …, secret: true}",
		Meaning: "variables that benchmarks find in their environment, such as HF_TOKEN",
		set:     environment},
}

// slurmKeys are the settings of runner: slurm.
var slurmKeys = []Key{
	{Name: "slurm.partition", Env: "KITT_SLURM_PARTITION", Allowed: "a name", Default: "the cluster's default",
		Meaning: "partition that benchmarks are submitted to",
		set:     text(func(c *Config) *string { return &c.Slurm.Partition }, slurm.CheckName)},
	{Name: "slurm.account", Env: "KITT_SLURM_ACCOUNT", Allowed: "a name", Default: "the user's default",
		Meaning: "account that benchmarks are charged to",
		set:     text(func(c *Config) *string { return &c.Slurm.Account }, slurm.CheckName)},
	{Name: "slurm.qos", Env: "KITT_SLURM_QOS", Allowed: "a name", Default: "the account's default",
		Meaning: "quality of service of benchmarks",
		set:     text(func(c *Config) *string { return &c.Slurm.QOS }, slurm.CheckName)},
	{Name: "slurm.time", Env: "KITT_SLURM_TIME", Allowed: "0 for the partition's, or 1m to 365d", Default: "0",
		Meaning: "time limit of a benchmark at Slurm",
		set:     durationOrZero(func(c *Config) *durationOf { return &c.Slurm.Time }, minute, 365*day)},
	{Name: "slurm.gpus", Env: "KITT_SLURM_GPUS", Allowed: "0 to 1024", Default: "1",
		Meaning: "GPUs that a benchmark gets from Slurm",
		set:     integer(func(c *Config) *int { return &c.Slurm.GPUs }, 0, 1024)},
	{Name: "slurm.gpu_type", Env: "KITT_SLURM_GPU_TYPE", Allowed: "a type in gres.conf, such as h200", Default: "any type",
		Meaning: "type of these GPUs",
		set:     text(func(c *Config) *string { return &c.Slurm.GPUType }, slurm.CheckName)},
	{Name: "slurm.exclusive", Env: "KITT_SLURM_EXCLUSIVE", Allowed: "true or false", Default: "false",
		Meaning: "whether a benchmark gets a whole node, so that no other job disturbs it",
		set:     boolean(func(c *Config, v bool) { c.Slurm.Exclusive = v })},
	{Name: "slurm.args", Allowed: "a list of sbatch's options, such as --mem=200G", Default: "none",
		Meaning: "further options of sbatch; docs/slurm.md lists those that are allowed",
		set:     list(func(c *Config) *[]string { return &c.Slurm.Args }, func(arg string) error { return slurm.CheckArgs([]string{arg}) })},
	{Name: "slurm.shared_dir", Env: "KITT_SLURM_SHARED_DIR", Allowed: "an absolute path, or one that begins with ~/", Default: "the agent's home",
		Meaning: "directory that all nodes see by the same path; the agent's home is in it",
		set:     text(func(c *Config) *string { return &c.Slurm.SharedDir }, rules.Path)},
	{Name: "slurm.node_dir", Env: "KITT_SLURM_NODE_DIR", Allowed: "an absolute path", Default: "none: models stay where they are",
		Meaning: "directory on each node's own disk that models are copied to",
		set:     text(func(c *Config) *string { return &c.Slurm.NodeDir }, rules.Path)},
	{Name: "slurm.container", Env: "KITT_SLURM_CONTAINER", Allowed: "none, docker or podman", Default: "none",
		Meaning: "what runs kitt on a node: the node's own kitt command, or kitt_image in a container",
		set:     word(func(c *Config) *string { return &c.Slurm.Container }, "none", "docker", "podman")},
	{Name: "slurm.command", Allowed: "a list of words, such as [apptainer, exec, --nv, \"{binds}\", kitt.sif, kitt, \"{args}\"]", Default: "by slurm.container",
		Meaning: "command line on a node, in place of slurm.container; docs/slurm.md says what {…} stands for",
		set:     list(func(c *Config) *[]string { return &c.Slurm.Command }, func(word string) error { return slurm.CheckCommand([]string{word}) })},
}

// limitKeys are the settings of how many jobs run, for how long, and what they leave.
var limitKeys = []Key{
	{Name: "gpus", Env: "KITT_GPUS", Allowed: "auto, all or none", Default: "auto",
		Meaning: "GPUs that a benchmark gets; auto means all, where there are any",
		set:     word(func(c *Config) *string { return &c.GPUs }, "auto", "all", "none")},
	{Name: "gpus_per_job", Env: "KITT_GPUS_PER_JOB", Allowed: "1 to 64", Default: "all",
		Meaning: "GPUs or MIG instances that a benchmark has for itself, close to each other, so that several run at once",
		set:     integer(func(c *Config) *int { return &c.GPUsPerJob }, 1, agent.MaxGPUsPerJob)},
	{Name: "gpu_sets", Allowed: "a list of lists of UUIDs or indexes of GPUs, such as [[0, 1], [2, 3]]", Default: "none",
		Meaning: "sets of GPUs or MIG instances of which a benchmark has one for itself, in place of gpus_per_job",
		set:     gpuSets},
	{Name: "exclusive", Env: "KITT_EXCLUSIVE", Allowed: "true or false", Default: "false",
		Meaning: "whether each benchmark waits until no other one runs, as one does whose command has exclusive: true",
		set:     boolean(func(c *Config, v bool) { c.Exclusive = v })},
	{Name: "max_concurrent_jobs", Env: "KITT_MAX_CONCURRENT_JOBS", Allowed: "1 to 1024", Default: "1, or one for each set of GPUs; with runner: slurm as many as the partition has room for",
		Meaning: "benchmarks that run at once",
		set:     integer(func(c *Config) *int { return &c.MaxConcurrentJobs }, 1, rules.MaxJobs)},
	{Name: "stop_grace", Env: "KITT_STOP_GRACE", Allowed: "1s to 1h", Default: "10s",
		Meaning: "what a cancelled benchmark gets between SIGTERM and SIGKILL",
		set:     duration(func(c *Config) *durationOf { return &c.StopGrace }, second, hour)},
	{Name: "max_job_duration", Env: "KITT_MAX_JOB_DURATION", Allowed: "0 for no limit, or 1m to 365d", Default: "0",
		Meaning: "longest time that a benchmark may run",
		set:     durationOrZero(func(c *Config) *durationOf { return &c.MaxJobDuration }, minute, 365*day)},
	{Name: "drain_timeout", Env: "KITT_DRAIN_TIMEOUT", Allowed: "1s to 1h", Default: "10s",
		Meaning: "how long a stopping agent goes on delivering reports",
		set:     duration(func(c *Config) *durationOf { return &c.DrainTimeout }, second, hour)},
	{Name: "retention.max_age", Env: "KITT_RETENTION_MAX_AGE", Allowed: "1h to 3650d", Default: "30d",
		Meaning: "how long a delivered job's log and results are kept",
		set:     duration(func(c *Config) *durationOf { return &c.Retention.MaxAge }, hour, 3650*day)},
	{Name: "retention.max_size", Env: "KITT_RETENTION_MAX_SIZE", Allowed: "1MiB or more", Default: "2GiB",
		Meaning: "how much disk delivered jobs may fill",
		set:     size(func(c *Config) *int64 { return &c.Retention.MaxSize }, 1<<20)},
	{Name: "limits.log", Env: "KITT_LIMITS_LOG", Allowed: "0 for no limit, or 16MiB or more", Default: "4GiB",
		Meaning: "how much disk the output of one benchmark may fill; beyond it the oldest goes, and the log says what is missing",
		set:     sizeOrZero(func(c *Config) *int64 { return &c.Limits.Log }, 16<<20)},
	{Name: "limits.connections", Env: "KITT_LIMITS_CONNECTIONS", Allowed: "16 to 65536", Default: "2048",
		Meaning: "connections to the agent's API that are open at once; never more than half of the files that the agent may open",
		set:     integer(func(c *Config) *int { return &c.Limits.Connections }, 16, 65536)},
	{Name: "limits.followers", Env: "KITT_LIMITS_FOLLOWERS", Allowed: "1 to 65536", Default: "1100",
		Meaning: "readers that follow logs over the agent's API at once",
		set:     integer(func(c *Config) *int { return &c.Limits.Followers }, 1, 65536)},
}

// policyKeys are the settings of what the server and benchmarks may do.
var policyKeys = []Key{
	{Name: "policy.engine_socket", Env: "KITT_POLICY_ENGINE_SOCKET", Allowed: "proxy, host or none", Default: "proxy",
		Meaning: "socket of the container engine that a benchmark gets: one that reaches only its own containers; the engine's own, which gives it root on this machine; or none",
		set:     word(func(c *Config) *string { return &c.Policy.EngineSocket }, "proxy", "host", "none")},
	{Name: "policy.engine_images", Allowed: "a list of repositories, patterns, tags or digests, such as vllm/vllm-openai", Default: "those of KITT's engines",
		Meaning: "images that a benchmark may start engines of",
		set:     list(func(c *Config) *[]string { return &c.Policy.EngineImages }, func(image string) error { return socketproxy.CheckImages([]string{image}) })},
	{Name: "policy.caches", Allowed: "a list of absolute paths, or such that begin with ~/", Default: "none",
		Meaning: "directories that a benchmark's engines may mount and write to, such as a cache of compiled kernels",
		set:     list(func(c *Config) *[]string { return &c.Policy.Caches }, rules.Path)},
	{Name: "policy.container.network", Env: "KITT_POLICY_CONTAINER_NETWORK", Allowed: "host or job", Default: "host",
		Meaning: "network of a benchmark and its engines: the machine's, or one of the job's own, in which nobody else can hold an engine's port",
		set:     word(func(c *Config) *string { return &c.Policy.Container.Network }, "host", "job")},
	{Name: "policy.container.user", Env: "KITT_POLICY_CONTAINER_USER", Allowed: "image, a user, or user:group", Default: "the agent's where the image's is root, else the image's",
		Meaning: "who a benchmark is in its container",
		set:     text(func(c *Config) *string { return &c.Policy.Container.User }, checkUser)},
	{Name: "policy.container.cap_add", Allowed: "a list of capabilities, such as SYS_NICE", Default: "none",
		Meaning: "capabilities that a benchmark has in its container, beyond DAC_OVERRIDE for root",
		set:     list(func(c *Config) *[]string { return &c.Policy.Container.CapAdd }, checkCapability)},
	{Name: "policy.container.pids", Env: "KITT_POLICY_CONTAINER_PIDS", Allowed: "64 to 4194304", Default: "32768",
		Meaning: "processes and threads of a benchmark's container, and of each of its engines'",
		set:     integer(func(c *Config) *int { return &c.Policy.Container.Pids }, 64, 1<<22)},
	{Name: "policy.container.memory", Env: "KITT_POLICY_CONTAINER_MEMORY", Allowed: "0 for no limit, or 1% to 100%", Default: "0",
		Meaning: "share of the machine's RAM that a benchmark's container has at most, and each of its engines'",
		set:     percent(func(c *Config) *int { return &c.Policy.Container.MemoryPercent })},
	{Name: "policy.container.read_only_root", Env: "KITT_POLICY_CONTAINER_READ_ONLY_ROOT", Allowed: "true or false", Default: "false",
		Meaning: "keep a benchmark from writing to its container's own file system",
		set:     boolean(func(c *Config, on bool) { c.Policy.Container.ReadOnlyRoot = on })},
	{Name: "policy.server_may_set", Allowed: "a list of the six settings", Default: "all six",
		Meaning: "settings that the server may change",
		set:     list(func(c *Config) *[]string { return &c.Policy.ServerMaySet }, policy.SettingRule)},
	{Name: "policy.storage_dirs", Allowed: "a list of directories", Default: "new or empty ones, or the agent's, below /home, /data, /srv, /mnt, /media, /var/lib",
		Meaning: "directories in which the server may have models kept, apart from model_storage_dir",
		set:     list(func(c *Config) *[]string { return &c.Policy.StorageDirs }, rules.Path)},
	{Name: "policy.shares", Allowed: "a list of host:/directory, each with a * for any text", Default: "any",
		Meaning: "shares that the server may name",
		set:     list(func(c *Config) *[]string { return &c.Policy.Shares }, policy.ShareRule)},
	{Name: "policy.model_dirs", Allowed: "a list of directories", Default: "none",
		Meaning: "directories in which models may be used where they are, apart from the storage directory and the share",
		set:     list(func(c *Config) *[]string { return &c.Policy.ModelDirs }, rules.Path)},
	{Name: "policy.profile_keys", Allowed: "a list of keys, such as image or extra_args", Default: "none",
		Meaning: "what an engine profile of the server may set in addition to plain settings; image, env, extra_args, volumes and python_path can make kitt run anything",
		set:     list(func(c *Config) *[]string { return &c.Policy.ProfileKeys }, policy.ProfileKeyRule)},
	{Name: "policy.images", Allowed: "a list of images, each with a * for any text", Default: "those whose repository ends in kitt, and kitt_image's",
		Meaning: "images on this machine that the server may choose; without a tag or digest all of a repository",
		set:     list(func(c *Config) *[]string { return &c.Policy.Images }, policy.ImageRule)},
}

// notifyKeys are the settings of package notify.
var notifyKeys = []Key{
	{Name: "notify.url", Env: "KITT_NOTIFY_URL", Secret: true, Allowed: "an http or https address, $NAME, or file:/path",
		Meaning: "web hook that is told when a job fails and when something is wrong with the agent",
		set:     referenceTo(func(c *Config) *Reference { return &c.Notify.URL })},
	{Name: "notify.events", Allowed: "a list of job-failed, job-completed, job-cancelled, integrity-invalid, degraded, recovered", Default: "job-failed, integrity-invalid, degraded, recovered",
		Meaning: "what it is told",
		set:     list(func(c *Config) *[]string { return &c.Notify.Events }, checkNotifyEvent)},
	{Name: "notify.format", Env: "KITT_NOTIFY_FORMAT", Allowed: "json, slack or cloudevents", Default: "json",
		Meaning: "form of what it is sent",
		set:     word(func(c *Config) *string { return &c.Notify.Format }, "json", "slack", "cloudevents")},
	{Name: "notify.key", Env: "KITT_NOTIFY_KEY", Secret: true, Allowed: "a text, whsec_ and base64, $NAME, or file:/path",
		Meaning: "key that signs what is sent, as Standard Webhooks does",
		set:     referenceTo(func(c *Config) *Reference { return &c.Notify.Key })},
	{Name: "notify.per_hour", Env: "KITT_NOTIFY_PER_HOUR", Allowed: "1 to 1000", Default: "30",
		Meaning: "most that is sent in an hour; what is more waits",
		set:     integer(func(c *Config) *int { return &c.Notify.PerHour }, 1, notify.MaxPerHour)},
}

// programKeys are the settings of the program: its updates and its log.
var programKeys = []Key{
	{Name: "update.public_key", Env: "KITT_UPDATE_PUBLIC_KEY", Allowed: "an Ed25519 public key in base64",
		Meaning: "key that updates of the agent must be signed with",
		set:     text(func(c *Config) *string { return &c.UpdateKey }, checkPublicKey)},
	{Name: "log.level", Env: "KITT_LOG_LEVEL", Allowed: "debug, info, warn or error", Default: "info",
		Meaning: "what the agent logs",
		set:     logLevel},
	{Name: "log.format", Env: "KITT_LOG_FORMAT", Allowed: "auto, text or json", Default: "auto",
		Meaning: "form of the agent's log; auto is coloured text on a terminal and JSON elsewhere",
		set:     word(func(c *Config) *string { return &c.Log.Format }, "auto", "text", "json")},
}

// findKey returns the key of that name, or nil.
func findKey(name string) *Key {
	for i := range keys {
		if keys[i].Name == name {
			return &keys[i]
		}
	}
	return nil
}

// nested reports whether name is the part of keys before a dot.
func nested(name string) bool { return firstBelow(name) != "" }

// firstBelow returns what follows name and a dot in the first key that begins so.
func firstBelow(name string) string {
	for _, k := range keys {
		if below, ok := strings.CutPrefix(k.Name, name+"."); ok {
			below, _, _ = strings.Cut(below, ".")
			return below
		}
	}
	return ""
}
