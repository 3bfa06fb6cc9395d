package fleet

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/runner/simulated"
)

// RandomProfile is the profile that gives each agent another machine; see
// [hwdetect.Random].
const RandomProfile = "random"

// A Group is a number of agents with the same configuration.
type Group struct {
	// Name is the middle part of the agents' names. Defaults to the profile, or to
	// "custom" if Machine is set.
	Name string `yaml:"name"`

	// Count is the number of agents.
	Count int `yaml:"count"`

	// Hardware describes their machines.
	Hardware `yaml:",inline"`

	// Machine, if set, is used instead of Hardware. Each agent replaces the host
	// name with its own name.
	Machine *hwdetect.Machine `yaml:"-"`

	// Speed and Scenario, if set, override the fleet's.
	Speed    *float64            `yaml:"speed"`
	Scenario *simulated.Scenario `yaml:"scenario"`
}

// Hardware describes a machine: a profile and the values that differ from it. Empty
// fields mean the profile's values.
type Hardware struct {
	Profile     string `yaml:"profile"`     // one of hwdetect.Profiles, or RandomProfile, the default
	GPU         string `yaml:"gpu"`         // model, such as NVIDIA L40S
	GPUs        *int   `yaml:"gpus"`        // number of GPUs, 0 to 64
	CPU         string `yaml:"cpu"`         // model
	Arch        string `yaml:"arch"`        // amd64 or arm64
	RAMGiB      int64  `yaml:"ram_gb"`      // in GiB, which KITT calls GB
	Environment string `yaml:"environment"` // such as native_linux, docker, dgx_spark
}

// environments are the protocol's environment types.
var environments = []string{
	"native_linux", "docker", "container", "wsl2", "dgx", "dgx_spark", "native_macos", "native_windows", "unknown",
}

const (
	gib     = 1 << 30
	maxGPUs = 64
	maxRAM  = 1 << 20 // GiB
)

// build returns the machine. seed determines a random one.
func (h Hardware) build(seed uint64) (*hwdetect.Machine, error) {
	if err := h.validate(); err != nil {
		return nil, err
	}
	m, ok := hwdetect.Profile(h.Profile)
	if !ok {
		m = hwdetect.Random(seed)
	}
	if h.CPU != "" {
		m.CPU.Model = h.CPU
	}
	if h.Arch != "" {
		m.CPU.Arch = h.Arch
	}
	if h.RAMGiB != 0 {
		m.MemoryBytes = h.RAMGiB * gib
	}
	if h.Environment != "" {
		m.EnvironmentType = h.Environment
	}
	h.fit(m)
	return m, nil
}

// fit sets the GPUs of m to those that h describes.
func (h Hardware) fit(m *hwdetect.Machine) {
	n := len(m.GPUs)
	if h.GPUs != nil {
		n = *h.GPUs
	}
	model := h.GPU
	switch {
	case n == 0 && h.GPUs == nil && model != "":
		n = 1
	case model == "" && len(m.GPUs) > 0:
		model = m.GPUs[0].Model
	case model == "" && n > 0:
		model = simulated.DefaultHardware().GPU.Model
	}
	if n == len(m.GPUs) && h.GPU == "" {
		for i := range m.GPUs {
			if m.GPUs[i].Unified {
				m.GPUs[i].MemoryBytes = m.MemoryBytes
			}
		}
		return
	}
	kind := gpu(model, m.MemoryBytes)
	m.GPUs = make([]hwdetect.GPU, n)
	for i := range m.GPUs {
		m.GPUs[i] = kind
		m.GPUs[i].Index = i
	}
	if n == 0 {
		m.DriverVersion, m.CUDAVersion, m.CUDADriver = "", "", ""
	} else if m.DriverVersion == "" {
		d := simulated.DefaultHardware()
		m.DriverVersion, m.CUDAVersion, m.CUDADriver = d.Driver, d.CUDA, d.CUDA
	}
}

// gpu returns a GPU of a known model.
func gpu(model string, ram int64) hwdetect.GPU {
	if k, ok := hwdetect.LookupGPUModel(model); ok {
		g := hwdetect.GPU{
			Model: k.Name, MemoryBytes: k.MemoryBytes, Unified: k.Unified,
			ComputeCapability: k.ComputeCapability, PowerLimitW: k.PowerW,
		}
		if k.Unified {
			g.MemoryBytes = ram
		}
		return g
	}
	k, _ := simulated.LookupGPU(model)
	return hwdetect.GPU{
		Model: model, MemoryBytes: k.MemoryBytes,
		ComputeCapability: fmt.Sprintf("%d.%d", k.ComputeCapability[0], k.ComputeCapability[1]),
	}
}

func (h Hardware) validate() error {
	var faults []error
	if h.Profile != "" && h.Profile != RandomProfile && !slices.Contains(hwdetect.Profiles(), h.Profile) {
		faults = append(faults, fmt.Errorf("there is no profile %.40q; choose one of %s", h.Profile, strings.Join(Profiles(), ", ")))
	}
	if h.GPU != "" {
		_, known := hwdetect.LookupGPUModel(h.GPU)
		if _, simulable := simulated.LookupGPU(h.GPU); !known && !simulable {
			faults = append(faults, fmt.Errorf("GPU %.40q is not known; known ones are H100, A100, L40S, RTX 4090, GB10 and others", h.GPU))
		}
	}
	if h.GPUs != nil && (*h.GPUs < 0 || *h.GPUs > maxGPUs) {
		faults = append(faults, fmt.Errorf("the number of GPUs is %d, not from 0 to %d", *h.GPUs, maxGPUs))
	}
	if h.Arch != "" && h.Arch != "amd64" && h.Arch != "arm64" {
		faults = append(faults, fmt.Errorf("arch %.40q is neither amd64 nor arm64", h.Arch))
	}
	if h.RAMGiB < 0 || h.RAMGiB > maxRAM {
		faults = append(faults, fmt.Errorf("RAM is %d GiB, not from 1 to %d", h.RAMGiB, maxRAM))
	}
	if h.Environment != "" && !slices.Contains(environments, h.Environment) {
		faults = append(faults, fmt.Errorf("environment %.40q is not one of %s", h.Environment, strings.Join(environments, ", ")))
	}
	return errors.Join(faults...)
}

// label returns the middle part of the agents' names.
func (g *Group) label() string {
	switch {
	case g.Name != "":
		return g.Name
	case g.Machine != nil:
		return "custom"
	case g.Profile != "":
		return g.Profile
	}
	return RandomProfile
}

// random reports whether each agent has another machine.
func (g *Group) random() bool {
	return g.Machine == nil && (g.Profile == "" || g.Profile == RandomProfile)
}

func (g *Group) validate(fleet Config) error {
	var faults []error
	if g.Count < 0 {
		faults = append(faults, fmt.Errorf("Count %d is negative", g.Count))
	}
	if strings.ContainsAny(g.Name, `/\`) || strings.HasPrefix(g.Name, ".") {
		faults = append(faults, fmt.Errorf("the name %.40q has a slash or begins with a dot", g.Name))
	}
	machine := g.Machine
	if machine == nil {
		var err error
		if machine, err = g.build(fleet.Seed); err != nil {
			return errors.Join(append(faults, err)...)
		}
	}
	_, err := simulated.New(g.simulation(fleet, machine))
	return errors.Join(append(faults, err)...)
}

// simulation returns the configuration of the group's simulated runs on m.
func (g *Group) simulation(fleet Config, m *hwdetect.Machine) simulated.Config {
	cfg := simulated.Config{Hardware: hardware(m), Seed: fleet.Seed, Speed: fleet.Speed, Scenario: fleet.Scenario}
	if g.Speed != nil {
		cfg.Speed = *g.Speed
	}
	if g.Scenario != nil {
		cfg.Scenario = *g.Scenario
	}
	return cfg
}

// hardware returns a machine in the form of package simulated, which derives a GPU's
// performance from its model.
func hardware(m *hwdetect.Machine) simulated.Hardware {
	h := simulated.Hardware{
		GPUs: len(m.GPUs),
		CPU:  m.CPU.Model, Cores: m.CPU.Cores, Threads: m.CPU.Threads,
		RAMBytes: m.MemoryBytes, RAMType: m.MemoryType,
		DiskBrand: m.Storage.Brand, DiskModel: m.Storage.Model, DiskType: m.Storage.Type,
		CUDA: m.CUDAVersion, Driver: m.DriverVersion, OS: m.OS, Kernel: m.Kernel, Environment: m.EnvironmentType,
	}
	if len(m.GPUs) > 0 {
		h.GPU = simulated.GPU{Model: m.GPUs[0].Model, MemoryBytes: m.GPUs[0].MemoryBytes}
	}
	return h
}

// Profiles returns the valid values of Hardware.Profile.
func Profiles() []string { return append([]string{RandomProfile}, hwdetect.Profiles()...) }
