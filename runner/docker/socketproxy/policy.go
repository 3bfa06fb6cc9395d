package socketproxy

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/kirizan/kitt-agent/internal/base"
)

// LabelEngine is the label of the containers that a benchmark starts through its
// proxy. Its value is the job's ID.
const LabelEngine = "io.kitt.engine"

// A Network says which network the containers of a benchmark are in.
type Network string

// The networks.
const (
	NetworkHost Network = "host" // the machine's
	NetworkJob  Network = "job"  // one of the job's own, which is that of the benchmark's container
)

// DefaultPids is how many processes and threads a container may have. Engines have a
// thread per core and GPU several times over.
const DefaultPids = 32768

// DefaultImages returns the images that KITT's engines use: those of its registry and
// of its overrides for newer hardware.
func DefaultImages() []string {
	return []string{
		"vllm/vllm-openai", "nvcr.io/nvidia/vllm", "ghcr.io/ggml-org/llama.cpp", "kitt/llama-cpp", "kitt/vllm",
		"ollama/ollama", "ghcr.io/turboderp/exllamav2",
	}
}

// A Policy says what the benchmark of one job may do.
type Policy struct {
	Version int    `json:"version"`
	Job     string `json:"job"` // the job's ID, the value of LabelEngine

	// Engine is the container engine's address: unix:///path or tcp://host:port.
	Engine string `json:"engine"`

	// Images are the images that containers may be made of: repositories, with or
	// without a tag or digest. Both parts may be patterns of [path.Match].
	Images []string `json:"images"`

	Model   string   `json:"model,omitempty"`   // absolute path of a file or directory, mounted read-only; empty for none
	Files   []string `json:"files,omitempty"`   // all files of a model that is several of one directory, as in runner.Job
	Results string   `json:"results,omitempty"` // absolute path of a directory that may be mounted
	Caches  []string `json:"caches,omitempty"`  // the same

	// LinkDirs are the directories into which links in Model may lead. What they
	// lead to is mounted read-only too.
	LinkDirs []string `json:"link_dirs,omitempty"`

	// GPUs are those that containers get which ask for any, as in runner.Job.
	GPUs []string `json:"gpus,omitempty"`

	// CDI are the names of these in a CDI specification, all of them; none where the
	// engine is to be asked for GPUs without one.
	CDI []string `json:"cdi,omitempty"`

	// CPUs and MemoryNodes are those that containers get, as lists in the form of
	// cpuset(7); empty for what they ask for.
	CPUs        string `json:"cpus,omitempty"`
	MemoryNodes string `json:"memory_nodes,omitempty"`

	ShmMax int64 `json:"shm_max"` // the most bytes of /dev/shm; more is cut down to it
	Pids   int64 `json:"pids"`    // the most processes and threads of a container

	Memory int64 `json:"memory,omitempty"` // the most bytes of RAM of a container; 0 for no limit

	Network Network `json:"network"`

	// Labels are those that each container gets, in addition to LabelEngine.
	Labels map[string]string `json:"labels,omitempty"`

	// Benchmark are the labels of the benchmark's own container, whose network
	// containers join with NetworkJob.
	Benchmark map[string]string `json:"benchmark,omitempty"`
}

const (
	policyVersion = 1
	maxPolicy     = 1 << 20 // bytes of a file with one
)

var jobID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// check returns what is wrong with the policy.
func (p Policy) check() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if p.Version != policyVersion {
		fault("version %d is not understood", p.Version)
	}
	if !jobID.MatchString(p.Job) {
		fault("%q is not a job's ID", p.Job)
	}
	if _, _, err := address(p.Engine); err != nil {
		errs = append(errs, err)
	}
	for _, path := range append([]string{p.Model, p.Results}, slices.Concat(p.Files, p.Caches, p.LinkDirs)...) {
		if path != "" && (!filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/") {
			fault("%q is not the path of a file or directory", path)
		}
	}
	errs = append(errs, CheckImages(p.Images))
	if p.ShmMax <= 0 || p.Pids <= 0 {
		fault("shm_max is %d and pids %d, and both must be positive", p.ShmMax, p.Pids)
	}
	if p.Memory < 0 {
		fault("memory is %d, which is negative", p.Memory)
	}
	if p.Network != NetworkHost && p.Network != NetworkJob || p.Network == NetworkJob && len(p.Benchmark) == 0 {
		fault("network %q with %d labels of the benchmark's container is not understood", p.Network, len(p.Benchmark))
	}
	return errors.Join(errs...)
}

// CheckImages returns what is wrong with a list of Policy.Images.
func CheckImages(images []string) error {
	var errs []error
	for _, image := range images {
		_, err := parseEntry(image)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// readPolicy returns the policy in a file.
func readPolicy(path string) (Policy, error) {
	var p Policy
	err := base.ReadJSON(path, &p, maxPolicy)
	if err == nil {
		err = p.check()
	}
	if err != nil {
		return Policy{}, fmt.Errorf("read the policy: %w", err)
	}
	return p, nil
}
