package config

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sort"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/kirizan/kitt-agent/agent/notify"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/internal/rules"
	"github.com/kirizan/kitt-agent/runner/docker/socketproxy"
	"github.com/kirizan/kitt-agent/runner/engine/native"
	"github.com/kirizan/kitt-agent/runner/supervisor"
	"github.com/kirizan/kitt-agent/storage"
)

// CommandLine is what an [Error] names in place of a file where a flag is at
// fault, and the origin of what a flag sets.
const CommandLine = "command line"

// Sources are where settings come from.
type Sources struct {
	// Path is the file to read. Empty means agent.yaml in the home directory
	// of the agent.
	Path string

	// Getenv looks a variable up. Nil means that there are none.
	Getenv func(string) string

	// Flags are the values given on the command line, by the names of keys.
	Flags map[string]string
}

// Home returns the directory of the agent's own files: KITT_HOME, or .kitt in
// the user's home directory.
func Home(getenv func(string) string) (string, error) {
	if home := getenv("KITT_HOME"); home != "" {
		if !filepath.IsAbs(home) {
			return "", &Error{File: "KITT_HOME", Problem: fmt.Sprintf("%q is relative", home), Fix: "give an absolute path"}
		}
		return filepath.Clean(home), nil
	}
	home := getenv("HOME")
	if home == "" {
		return "", &Error{File: "HOME", Problem: "the user has no home directory", Fix: "set KITT_HOME to a directory for the agent's files"}
	}
	return filepath.Join(home, ".kitt"), nil
}

// Resolve returns the settings in force: flags over variables over the file over
// defaults. A missing file is as good as an empty one; Exists says whether there
// is one. The warnings are sentences for a person. The error joins an [*Error]
// for each value that makes no sense.
func (s Sources) Resolve() (*Config, []string, error) {
	getenv := s.Getenv
	if getenv == nil {
		getenv = func(string) string { return "" }
	}
	home, err := Home(getenv)
	if err != nil {
		return nil, nil, err
	}
	c := defaults()
	c.Home, c.Path = home, s.Path
	if c.Path == "" {
		c.Path = filepath.Join(home, "agent.yaml")
	}

	var warnings []string
	var faults []error
	file, err := Open(c.Path)
	switch {
	case err == nil:
		warnings, err = file.apply(c)
		faults = append(faults, err)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, nil, err
	}
	for i := range keys {
		if name, value := keys[i].Variable(getenv); value != "" {
			faults = append(faults, c.override(&keys[i], value, name))
		}
	}
	names := make([]string, 0, len(s.Flags))
	for name := range s.Flags {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		key := findKey(name)
		if key == nil {
			return nil, nil, fmt.Errorf("config: there is no key %q", name)
		}
		faults = append(faults, c.override(key, s.Flags[name], CommandLine))
	}
	faults = append(faults, c.check()...)
	if err := errors.Join(faults...); err != nil {
		return nil, warnings, err
	}
	return c, warnings, nil
}

// defaults returns the settings of an agent that is told nothing.
func defaults() *Config {
	c := &Config{
		Port:         8090,
		Models:       Models{Streams: 16, ShareTimeout: 30 * time.Second},
		DiskLow:      2 << 30,
		Notify:       Notify{Format: string(notify.JSON), PerHour: notify.DefaultPerHour},
		Runner:       "auto",
		Simulated:    Simulated{Speed: 1},
		Slurm:        Slurm{GPUs: 1, Container: "none"},
		GPUs:         "auto",
		StopGrace:    10 * time.Second,
		DrainTimeout: 10 * time.Second,
		Engines:      Engines{StartTimeout: native.DefaultStartTimeout},
		Retention:    Retention{MaxAge: 30 * day, MaxSize: 2 << 30},
		Integrity:    Integrity{Enabled: true, Interval: time.Second, OnInvalid: "report", WaitIdle: 2 * time.Minute, CoolLimit: 10 * time.Minute},
		Limits:       Limits{Log: supervisor.DefaultLimit, Connections: 2048, Followers: 1100},
		Policy:       Policy{EngineSocket: "proxy", Container: ContainerPolicy{Network: "host", Pids: socketproxy.DefaultPids}, Engines: EnginePolicy{Listen: native.DefaultListen}},
		Log:          Log{Level: slog.LevelInfo, Format: "auto"},
		Page:         true,
		origins:      map[string]noted{},
	}
	if host, err := os.Hostname(); err == nil && rules.Name(host) == nil {
		c.Name = host
	}
	return c
}

// override sets a key from outside the file.
func (c *Config) override(key *Key, value, origin string) error {
	node := &yaml.Node{Kind: yaml.ScalarNode, Value: value}
	if err := key.set(c, node); err != nil {
		return newError(origin, 0, key, node, err)
	}
	c.note(key, node, origin)
	return nil
}

// check returns what is wrong with the settings taken together.
func (c *Config) check() []error {
	var faults []error
	fault := func(key, where, problem, fix string) {
		faults = append(faults, &Error{File: where, Key: key, Problem: problem, Fix: fix})
	}
	if c.Name == "" {
		fault("name", c.Path, "the machine has no host name to use for it", "set name, or give --name")
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		fault("tls", c.where("tls.cert", "tls.key"), "of cert and key only one is set", "set both, or neither")
	}
	if c.RequireClientCert && (c.TLS.CA == "" || !c.ServesTLS()) {
		fault("require_client_cert", c.where("require_client_cert"), "there is nothing to check certificates with", "set tls.cert, tls.key and tls.ca")
	}
	if len(c.AllowedImages) > 0 && len(c.Policy.Images) > 0 {
		fault("policy.images", c.where("policy.images"), "allowed_images is set too", "keep one of the two")
	}
	if c.Policy.EngineSocket == "host" && c.Policy.Container.Network == "job" {
		fault("policy.container.network", c.where("policy.container.network"), "a network of the job needs policy.engine_socket: proxy", "set it to host")
	}
	if len(c.GPUSets) > 0 && c.GPUsPerJob > 0 {
		fault("gpu_sets", c.where("gpu_sets"), "gpus_per_job is set too", "keep one of the two")
	}
	if c.Runner == "slurm" && (len(c.GPUSets) > 0 || c.GPUsPerJob > 0) {
		fault("runner", c.where("runner"), "Slurm chooses the GPUs of benchmarks, and gpu_sets or gpus_per_job is set", "use slurm.gpus")
	}
	if c.GPUs == "none" && (len(c.GPUSets) > 0 || c.GPUsPerJob > 0) {
		fault("gpus", c.where("gpus"), "it is none, and gpu_sets or gpus_per_job gives benchmarks some", "remove one of the two")
	}
	if c.MetricsListen != "" && !c.ServesMetrics() {
		fault("metrics_listen", c.where("metrics_listen"), "metrics: false says that there are none", "remove one of the two")
	}
	if shared := Expand(c.Slurm.SharedDir); c.Runner == "slurm" && shared != "" && !base.Within(filepath.Clean(shared), filepath.Clean(c.Home)) {
		fault("slurm.shared_dir", c.where("slurm.shared_dir"), fmt.Sprintf("the agent's home %s is not in it, so that nodes don't see its jobs", c.Home),
			"set KITT_HOME to a directory in it")
	}
	if len(c.Slurm.Command) > 0 && c.Slurm.Container != "none" {
		fault("slurm.command", c.where("slurm.command"), "slurm.container is set too", "keep one of the two")
	}
	models := storage.Settings{Dir: c.ModelStorageDir, ShareMount: c.ModelShareMount}
	if e, ok := errors.AsType[*storage.Error](models.Check()); ok {
		fault("model_share_mount", c.where("model_share_mount", "model_storage_dir"), e.Text, e.Fix)
	}
	return faults
}

// where returns the origin of the first of these keys that has one, or the file.
func (c *Config) where(keys ...string) string {
	for _, key := range keys {
		if o, ok := c.origins[key]; ok {
			return o.origin
		}
	}
	return c.Path
}

// Exists reports whether the file that c was read from is there.
func (c *Config) Exists() bool {
	_, err := os.Stat(c.Path)
	return err == nil
}

// Check returns the settings that the file gives by itself, with no variables or
// flags over it, and what is odd about them. getenv only says where the agent's
// home is.
func (f *File) Check(getenv func(string) string) (*Config, []string, error) {
	home, err := Home(getenv)
	if err != nil {
		return nil, nil, err
	}
	c := defaults()
	c.Home, c.Path = home, f.path
	mode := f.mode
	f.mode = 0 // which Save mends
	warnings, err := f.apply(c)
	f.mode = mode
	if err := errors.Join(append(c.check(), err)...); err != nil {
		return nil, warnings, err
	}
	return c, warnings, nil
}
