package kittapitest

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/kirizan/kitt-agent/runner/simulated"
)

// A TestAgent is one of the server's own virtual agents. It has the tag "test", port
// 0 and no token, and never goes offline. The server simulates its tests as
// Config.TestAgents specifies. The defaults are those of the server's form.
type TestAgent struct {
	// Name is the agent's name. It must not be empty or contain a slash.
	Name string

	// Hardware is the simulated machine. The server reports the GPU's model and
	// memory, the number of GPUs, the CPU, the RAM and the environment. Defaults
	// to one GeForce RTX 4090, a Core i9-13900K and 64 GiB of RAM.
	Hardware simulated.Hardware

	// Arch is the processor's architecture. Defaults to x86_64.
	Arch string

	// Scenario is the failure scenario of its tests. Defaults to that of
	// Config.TestAgents.
	Scenario simulated.Scenario
}

// formHardware returns the default machine of the server's form.
func formHardware() simulated.Hardware {
	return simulated.Hardware{
		GPU: simulated.GPU{Model: "NVIDIA RTX 4090"}, GPUs: 1,
		CPU: "Intel Core i9-13900K", RAMBytes: 64 << 30, Environment: "native_linux",
	}
}

// AddTestAgent adds a test agent and returns its id. It returns an error if the name
// is empty, has a slash or is in use, or if the hardware is invalid.
func (s *Server) AddTestAgent(a TestAgent) (id string, err error) {
	if a.Hardware == (simulated.Hardware{}) {
		a.Hardware = formHardware()
	}
	if a.Arch == "" {
		a.Arch = "x86_64"
	}
	return s.addTestAgent(a, gpuInfo(a.Hardware))
}

// gpuInfo returns the text for a machine's GPUs in the form of agents, with the
// memory of one GPU in GiB.
func gpuInfo(h simulated.Hardware) string {
	if h.GPUs == 0 {
		return ""
	}
	memory := h.GPU.MemoryBytes
	if memory == 0 {
		known, _ := simulated.LookupGPU(h.GPU.Model)
		memory = known.MemoryBytes
	}
	return fmt.Sprintf("%s %.0fGB", h.GPU.Model, math.Round(float64(memory)/(1<<30)))
}

func (s *Server) addTestAgent(a TestAgent, gpu string) (string, error) {
	switch {
	case a.Name == "":
		return "", errors.New("a test agent needs a name")
	case strings.Contains(a.Name, "/"):
		return "", fmt.Errorf("the name of test agent %q has a slash, so no path of the API can contain it", a.Name)
	}
	cfg := s.cfg.TestAgents
	cfg.Hardware, cfg.Scenario = a.Hardware, a.Scenario
	if _, err := simulated.New(cfg); err != nil {
		return "", fmt.Errorf("test agent %q: %w", a.Name, err)
	}
	facts, _ := check("AgentRegistration", registrationFields, newObject(
		"name", a.Name, "hostname", "test-"+a.Name, "port", num("0"),
		"gpu_info", gpu, "gpu_count", integer(a.Hardware.GPUs), "cpu_info", a.Hardware.CPU, "cpu_arch", a.Arch,
		"ram_gb", integer(a.Hardware.RAMBytes>>30), "environment_type", a.Hardware.Environment,
	))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.names[a.Name] != nil {
		return "", fmt.Errorf("an agent named %q exists already", a.Name)
	}
	row := s.addAgentLocked(facts, "", "online")
	row.tags, row.test = `["test"]`, &a
	s.touchLocked(row)
	s.wakeLocked()
	return row.id, nil
}

// CreateTestAgent adds a test agent from the fields of the server's form, and
// returns its id. The fields are name, gpu_info, gpu_count, cpu_info, cpu_arch,
// ram_gb (GiB) and environment_type. Missing fields have the form's defaults. It
// returns an error in the cases of [Server.AddTestAgent], and if a number is
// invalid.
func (s *Server) CreateTestAgent(form url.Values) (id string, err error) {
	field := func(name, fallback string) string {
		if form.Has(name) {
			return strings.TrimSpace(form.Get(name))
		}
		return fallback
	}
	gpus, errGPUs := strconv.Atoi(field("gpu_count", "1"))
	ram, errRAM := strconv.Atoi(field("ram_gb", "64"))
	if errGPUs != nil || errRAM != nil || ram < 0 || ram > 1<<30 {
		return "", errors.New("GPU count and RAM must be numbers")
	}
	gpu := field("gpu_info", "NVIDIA RTX 4090 24GB")
	return s.addTestAgent(TestAgent{
		Name: field("name", ""),
		Arch: field("cpu_arch", "x86_64"),
		Hardware: hardwareOf(gpu, gpus, field("cpu_info", "Intel Core i9-13900K"), ram,
			field("environment_type", "native_linux")),
	}, gpu)
}

// createTestAgent answers the form of the server's pages. If the form is invalid, the
// real server shows it again, and this one returns an error object.
func (c *call) createTestAgent() answer {
	form, err := url.ParseQuery(string(c.body))
	if err != nil {
		return refuse(http.StatusBadRequest, "The form cannot be read")
	}
	id, err := c.s.CreateTestAgent(form)
	if err != nil {
		return refuse(http.StatusBadRequest, "%s", err)
	}
	a := page(http.StatusFound)
	a.header = http.Header{"Location": {"/agents/" + id}}
	return a
}

// memoryAtEnd matches the memory at the end of gpu_info.
var memoryAtEnd = regexp.MustCompile(`(?i)\s+(\d{1,4})\s*Gi?B$`)

// hardwareOf returns the machine that a registration describes.
func hardwareOf(gpu string, gpus int, cpu string, ramGB int, environment string) simulated.Hardware {
	h := simulated.Hardware{CPU: cpu, GPUs: gpus, RAMBytes: int64(ramGB) << 30, Environment: environment}
	if gpus <= 0 || gpu == "" {
		return h
	}
	h.GPU, _ = simulated.LookupGPU(gpu)
	if m := memoryAtEnd.FindStringSubmatch(gpu); m != nil {
		h.GPU.Model = strings.TrimSuffix(gpu, m[0])
		if n, err := strconv.ParseInt(m[1], 10, 64); err == nil && n > 0 {
			h.GPU.MemoryBytes = n << 30
		}
	}
	return h
}

// testAgent returns the test agent of a record. If an operator tagged the agent,
// its hardware comes from the registration.
func (a *agentRow) testAgent() TestAgent {
	if a.test != nil {
		return *a.test
	}
	number := func(name string) int {
		n, _ := strconv.Atoi(str(a.facts[name]))
		return n
	}
	return TestAgent{Name: a.name(), Hardware: hardwareOf(
		str(a.facts["gpu_info"]), number("gpu_count"), str(a.facts["cpu_info"]), number("ram_gb"),
		str(a.facts["environment_type"]))}
}
