package kittapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/hwdetect"
)

// registration is the body of POST /agents/register. Unknown lists and numbers are
// omitted or empty, because the server rejects null.
type registration struct {
	Name            string   `json:"name"`
	Hostname        string   `json:"hostname"`
	Port            int      `json:"port,omitempty"`
	GPUInfo         string   `json:"gpu_info"`
	GPUCount        int      `json:"gpu_count"`
	CPUInfo         string   `json:"cpu_info"`
	CPUArch         string   `json:"cpu_arch"`
	RAMGB           int64    `json:"ram_gb"`
	EnvironmentType string   `json:"environment_type"`
	Fingerprint     string   `json:"fingerprint"`
	KITTVersion     string   `json:"kitt_version"`
	Capabilities    []string `json:"capabilities"`
	HardwareDetails string   `json:"hardware_details,omitempty"` // a JSON object as text
}

// hardwareDetails is the object in hardware_details.
type hardwareDetails struct {
	GPUModel             string `json:"gpu_model"`
	GPUVRAMGB            int64  `json:"gpu_vram_gb"`
	GPUCount             int    `json:"gpu_count"`
	GPUComputeCapability string `json:"gpu_compute_capability"`
	CPUModel             string `json:"cpu_model"`
	CPUArch              string `json:"cpu_arch"`
	CPUCores             int    `json:"cpu_cores"` // logical, as the Python agent counts them
	CPUThreads           int    `json:"cpu_threads"`
	RAMGB                int64  `json:"ram_gb"`
	RAMType              string `json:"ram_type"`
	StorageBrand         string `json:"storage_brand"`
	StorageModel         string `json:"storage_model"`
	StorageType          string `json:"storage_type"`
	CUDAVersion          string `json:"cuda_version"`
	DriverVersion        string `json:"driver_version"`
	OS                   string `json:"os"`
	Kernel               string `json:"kernel"`
	EnvironmentType      string `json:"environment_type"`
	Fingerprint          string `json:"fingerprint"`
}

// newRegistration returns the wire form of reg.
func newRegistration(reg agent.Registration) (registration, error) {
	r := registration{
		Name:         reg.Name,
		Hostname:     reg.Name,
		Port:         reg.Port,
		KITTVersion:  reg.Version,
		Capabilities: append([]string{}, reg.Capabilities...),
	}
	m := reg.Machine
	if m == nil {
		return r, nil
	}
	if m.Hostname != "" {
		r.Hostname = m.Hostname
	}
	r.CPUInfo, r.CPUArch = m.CPU.Model, m.CPU.Arch
	r.RAMGB = hwdetect.GiB(m.MemoryBytes)
	r.EnvironmentType = m.EnvironmentType
	r.Fingerprint = m.Fingerprint()
	d := hardwareDetails{
		CPUModel: m.CPU.Model, CPUArch: m.CPU.Arch, CPUCores: m.CPU.Threads, CPUThreads: m.CPU.Threads,
		RAMGB: r.RAMGB, RAMType: m.MemoryType,
		StorageBrand: m.Storage.Brand, StorageModel: m.Storage.Model, StorageType: m.Storage.Type,
		CUDAVersion: m.CUDAVersion, DriverVersion: m.DriverVersion,
		OS: m.OS, Kernel: m.Kernel, EnvironmentType: m.EnvironmentType, Fingerprint: r.Fingerprint,
	}
	if d.CPUCores == 0 {
		d.CPUCores, d.CPUThreads = m.CPU.Cores, m.CPU.Cores
	}
	r.GPUCount, d.GPUCount = len(m.GPUs), len(m.GPUs)
	if len(m.GPUs) > 0 {
		// The GPU of the fingerprint: the first one may be faulty and have no name.
		g := m.GPUs[max(0, slices.IndexFunc(m.GPUs, func(g hwdetect.GPU) bool { return g.Model != "" }))]
		d.GPUModel, d.GPUVRAMGB, d.GPUComputeCapability = g.Model, hwdetect.GiB(g.MemoryBytes), g.ComputeCapability
		r.GPUInfo = g.Model
		if d.GPUVRAMGB > 0 {
			r.GPUInfo = strings.TrimSpace(fmt.Sprintf("%s %dGB", g.Model, d.GPUVRAMGB))
		}
	}
	details, err := encode(d)
	if err != nil {
		return registration{}, err
	}
	r.HardwareDetails = strings.TrimSpace(string(details))
	return r, nil
}

// Register registers the agent and returns its id. The name identifies the agent: if
// the server knows the name, it updates that agent, which keeps its id.
func (c *Client) Register(ctx context.Context, reg agent.Registration) (agent.Registered, error) {
	body, err := newRegistration(reg)
	if err != nil {
		return agent.Registered{}, err
	}
	var registered agent.Registered
	err = c.do(ctx, request{
		method: http.MethodPost, path: "/agents/register", key: agentKey, body: body,
		answer: parsedInto(&registered, parseRegistered),
	})
	return registered, err
}

func parseRegistered(body []byte) (agent.Registered, error) {
	var answer struct {
		AgentID  text            `json:"agent_id"`
		Interval json.RawMessage `json:"heartbeat_interval_s"`
	}
	if err := unmarshal(body, &answer); err != nil {
		return agent.Registered{}, err
	}
	if answer.AgentID == "" {
		return agent.Registered{}, errShape("agent_id")
	}
	registered := agent.Registered{AgentID: string(answer.AgentID)}
	var seconds float64
	if json.Unmarshal(answer.Interval, &seconds) == nil && seconds > 0 && seconds < 1e6 {
		registered.Interval = time.Duration(seconds * float64(time.Second))
	}
	return registered, nil
}

// beat is the body of a heartbeat. Unknown values are omitted.
type beat struct {
	Status            string             `json:"status,omitempty"`
	CurrentTask       string             `json:"current_task"`
	GPUUtilizationPct *float64           `json:"gpu_utilization_pct,omitempty"`
	GPUMemoryUsedGB   *float64           `json:"gpu_memory_used_gb,omitempty"`
	StorageGBFree     *float64           `json:"storage_gb_free,omitempty"`
	UptimeS           float64            `json:"uptime_s"`
	Engines           []heartbeat.Engine `json:"engines"`
}

// newBeat returns the wire form of b.
func newBeat(b heartbeat.Beat) beat {
	wire := beat{
		Status:      b.Status,
		CurrentTask: b.Task,
		UptimeS:     hundredths(b.Uptime.Seconds()),
		Engines:     append([]heartbeat.Engine{}, b.Engines...),
	}
	if b.GPUUtilPct != nil && !math.IsNaN(*b.GPUUtilPct) {
		pct := hundredths(min(max(*b.GPUUtilPct, 0), 100))
		wire.GPUUtilizationPct = &pct
	}
	wire.GPUMemoryUsedGB = gib(b.GPUMemoryBytes)
	wire.StorageGBFree = gib(b.StorageFree)
	return wire
}

// gib returns bytes in GiB with two decimals, which the protocol calls GB.
func gib(bytes *int64) *float64 {
	if bytes == nil {
		return nil
	}
	n := hundredths(float64(*bytes) / (1 << 30))
	return &n
}

func hundredths(x float64) float64 { return math.Round(x*100) / 100 }

// agentUnknown is the error text of a heartbeat after which an agent must register
// again.
const agentUnknown = "Agent not found"

// Heartbeat sends b for the agent with the given id or name. The server sends each
// command once, when it receives the heartbeat, even if the answer is lost; see
// [Client.Dispatched]. The error matches [heartbeat.ErrUnknownAgent] if the agent
// must register again. Unreadable commands and settings are logged and omitted.
func (c *Client) Heartbeat(ctx context.Context, id string, b heartbeat.Beat) (heartbeat.Answer, error) {
	name, err := segment(id)
	if err != nil {
		return heartbeat.Answer{}, err
	}
	var answer heartbeat.Answer
	err = c.do(ctx, request{
		method: http.MethodPost, path: "/agents/" + name + "/heartbeat", key: agentKey, body: newBeat(b),
		answer: func(body []byte) error {
			parsed, broken, err := parseBeat(body)
			for _, fault := range broken {
				c.log.WarnContext(ctx, "part of the heartbeat's answer ignored", "err", fault)
			}
			answer = parsed
			return err
		},
	})
	if rejected, ok := errors.AsType[*reporter.RejectedError](err); ok && rejected.Code == http.StatusNotFound && rejected.Message == agentUnknown {
		return heartbeat.Answer{}, fmt.Errorf("agent %q: %w", id, heartbeat.ErrUnknownAgent)
	}
	return answer, err
}

// readCommand parses a command. A field that is not a string counts as absent, so
// that the other fields can still identify the command.
func readCommand(raw json.RawMessage) (heartbeat.Command, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return heartbeat.Command{}, err
	}
	field := func(name string) string {
		var t text
		if value, ok := fields[name]; !ok || json.Unmarshal(value, &t) != nil {
			return ""
		}
		return string(t)
	}
	return heartbeat.Command{
		ID: field("command_id"), TestID: field("test_id"), Type: field("type"), Payload: fields["payload"],
	}, nil
}

// parseBeat parses the answer to a heartbeat. broken has an error for each command
// or for settings that cannot be parsed. The answer omits these parts and has all
// others.
func parseBeat(body []byte) (answer heartbeat.Answer, broken []error, err error) {
	var wire struct {
		Ack      bool            `json:"ack"`
		AgentID  text            `json:"agent_id"`
		Commands json.RawMessage `json:"commands"`
		Settings json.RawMessage `json:"settings"`
	}
	if err := unmarshal(body, &wire); err != nil {
		return heartbeat.Answer{}, nil, err
	}
	if !wire.Ack {
		return heartbeat.Answer{}, nil, errShape("ack")
	}
	answer.AgentID = string(wire.AgentID)
	var commands []json.RawMessage
	if err := part(wire.Commands, &commands); err != nil {
		broken = append(broken, fmt.Errorf("commands: %w", err))
	}
	for _, raw := range commands {
		cmd, err := readCommand(raw)
		if err != nil {
			broken = append(broken, fmt.Errorf("command %q: %w", printable(string(raw)), err))
			continue
		}
		answer.Commands = append(answer.Commands, cmd)
	}
	var settings map[string]any
	if err := part(wire.Settings, &settings); err != nil {
		broken = append(broken, fmt.Errorf("settings: %w", err))
	}
	if settings != nil {
		answer.Settings = make(map[string]string, len(settings))
	}
	for name, value := range settings {
		if text, ok := value.(string); ok {
			answer.Settings[name] = text
		} else if value != nil {
			answer.Settings[name] = fmt.Sprint(value)
		}
	}
	return answer, broken, nil
}

// part decodes an optional part of an answer.
func part(raw json.RawMessage, v any) error {
	if len(raw) == 0 {
		return nil
	}
	return json.Unmarshal(raw, v)
}
