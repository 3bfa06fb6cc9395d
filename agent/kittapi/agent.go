package kittapi

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"net/url"
	"time"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/hwdetect"
)

// registration is what introduces an agent. Numbers that are unknown are left
// out: the server takes null for an error.
type registration struct {
	Name            string   `json:"name"`
	Hostname        string   `json:"hostname"`
	Port            int      `json:"port"`
	GPUInfo         string   `json:"gpu_info"`
	GPUCount        int      `json:"gpu_count"`
	CPUInfo         string   `json:"cpu_info"`
	CPUArch         string   `json:"cpu_arch"`
	RAMGB           int64    `json:"ram_gb"`
	EnvironmentType string   `json:"environment_type"`
	Fingerprint     string   `json:"fingerprint"`
	KITTVersion     string   `json:"kitt_version"`
	Capabilities    []string `json:"capabilities"`
	HardwareDetails string   `json:"hardware_details"` // a text that holds a JSON object
}

// hardwareDetails is the object in registration.HardwareDetails.
type hardwareDetails struct {
	GPUModel             string `json:"gpu_model"`
	GPUVRAMGB            int64  `json:"gpu_vram_gb"`
	GPUCount             int    `json:"gpu_count"`
	GPUComputeCapability string `json:"gpu_compute_capability"`
	CPUModel             string `json:"cpu_model"`
	CPUArch              string `json:"cpu_arch"`
	CPUCores             int    `json:"cpu_cores"` // logical, as the Python agent counts
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

// newRegistration puts a registration into the server's form.
func newRegistration(reg agent.Registration) (registration, error) {
	m := reg.Machine
	if m == nil {
		m = &hwdetect.Machine{Hostname: reg.Name, EnvironmentType: "unknown"}
	}
	d := hardwareDetails{
		GPUCount:        len(m.GPUs),
		CPUModel:        m.CPU.Model,
		CPUArch:         m.CPU.Arch,
		CPUCores:        m.CPU.Threads,
		CPUThreads:      m.CPU.Threads,
		RAMGB:           hwdetect.GiB(m.MemoryBytes),
		RAMType:         m.MemoryType,
		StorageBrand:    m.Storage.Brand,
		StorageModel:    m.Storage.Model,
		StorageType:     m.Storage.Type,
		CUDAVersion:     m.CUDAVersion,
		DriverVersion:   m.DriverVersion,
		OS:              m.OS,
		Kernel:          m.Kernel,
		EnvironmentType: m.EnvironmentType,
		Fingerprint:     m.Fingerprint(),
	}
	gpuInfo := ""
	if len(m.GPUs) > 0 {
		gpu := m.GPUs[0]
		d.GPUModel, d.GPUComputeCapability = gpu.Model, gpu.ComputeCapability
		d.GPUVRAMGB = hwdetect.GiB(gpu.MemoryBytes)
		gpuInfo = gpu.Model + " " + gibText(d.GPUVRAMGB)
	}
	details, err := encode(d)
	if err != nil {
		return registration{}, err
	}
	capabilities := reg.Capabilities
	if capabilities == nil {
		capabilities = []string{} // null would be refused
	}
	hostname := m.Hostname
	if hostname == "" {
		hostname = reg.Name
	}
	return registration{
		Name: reg.Name, Hostname: hostname, Port: reg.Port,
		GPUInfo: gpuInfo, GPUCount: d.GPUCount, CPUInfo: d.CPUModel, CPUArch: d.CPUArch, RAMGB: d.RAMGB,
		EnvironmentType: d.EnvironmentType, Fingerprint: d.Fingerprint, KITTVersion: reg.Version,
		Capabilities: capabilities, HardwareDetails: string(details),
	}, nil
}

func gibText(n int64) string {
	text, _ := json.Marshal(n) // a number always encodes
	return string(text) + "GB"
}

// Register makes the agent known.
func (c *Client) Register(ctx context.Context, reg agent.Registration) (agent.Registered, error) {
	body, err := newRegistration(reg)
	if err != nil {
		return agent.Registered{}, err
	}
	var answer struct {
		AgentID  string  `json:"agent_id"`
		Interval float64 `json:"heartbeat_interval_s"`
	}
	err = c.do(ctx, call{
		method: http.MethodPost, path: "/agents/register", token: c.token, body: body,
		answer: &answer, shape: func() bool { return answer.AgentID != "" },
	})
	if err != nil {
		return agent.Registered{}, c.agentRefused(err)
	}
	interval := time.Duration(0)
	if answer.Interval > 0 && answer.Interval < 1e6 {
		interval = time.Duration(answer.Interval * float64(time.Second))
	}
	return agent.Registered{AgentID: answer.AgentID, Interval: interval}, nil
}

// beat is a heartbeat in the server's form.
type beat struct {
	Status    string             `json:"status"`
	Task      string             `json:"current_task"`
	GPUUtil   *float64           `json:"gpu_utilization_pct,omitempty"`
	GPUMemory *float64           `json:"gpu_memory_used_gb,omitempty"`
	Free      *float64           `json:"storage_gb_free,omitempty"`
	Uptime    float64            `json:"uptime_s"`
	Engines   []heartbeat.Engine `json:"engines"`
}

func newBeat(b heartbeat.Beat) beat {
	w := beat{
		Status:    b.Status,
		Task:      b.Task,
		GPUUtil:   b.GPUUtilPct,
		GPUMemory: gib(b.GPUMemoryBytes),
		Free:      gib(b.StorageFree),
		Uptime:    math.Round(b.Uptime.Seconds()*10) / 10,
		Engines:   b.Engines,
	}
	if w.Engines == nil {
		w.Engines = []heartbeat.Engine{} // null would be refused
	}
	if b.GPUUtilPct != nil && !(*b.GPUUtilPct >= 0 && *b.GPUUtilPct <= 100) {
		w.GPUUtil = nil // NaN among them
	}
	return w
}

// gib returns a number of bytes in GiB with two decimals, nil for nil.
func gib(bytes *int64) *float64 {
	if bytes == nil {
		return nil
	}
	n := math.Round(float64(*bytes)/(1<<30)*100) / 100
	return &n
}

// maxCommands bounds what is taken from one answer; the server sends one.
const maxCommands = 100

// Heartbeat reports b for the agent with the given id or name.
func (c *Client) Heartbeat(ctx context.Context, id string, b heartbeat.Beat) (heartbeat.Answer, error) {
	var answer struct {
		Ack      *bool             `json:"ack"`
		AgentID  string            `json:"agent_id"`
		Commands []json.RawMessage `json:"commands"`
		Settings map[string]any    `json:"settings"`
	}
	err := c.do(ctx, call{
		method: http.MethodPost, path: "/agents/" + url.PathEscape(id) + "/heartbeat", token: c.token, body: newBeat(b),
		answer: &answer, shape: func() bool { return answer.Ack != nil && *answer.Ack && len(answer.Commands) <= maxCommands },
	})
	if err != nil {
		return heartbeat.Answer{}, c.agentRefused(err)
	}
	return heartbeat.Answer{
		AgentID:  answer.AgentID,
		Commands: readCommands(answer.Commands),
		Settings: readSettings(answer.Settings),
	}, nil
}

// readCommands reads commands one by one, so that one in a strange form spoils
// no other, and is still known by what of it can be read.
func readCommands(raw []json.RawMessage) []heartbeat.Command {
	var commands []heartbeat.Command
	for _, text := range raw {
		var fields map[string]json.RawMessage
		if json.Unmarshal(text, &fields) != nil {
			continue // the server has lost it; it is found again as dispatched
		}
		cmd := heartbeat.Command{Payload: fields["payload"]}
		for name, into := range map[string]*string{"command_id": &cmd.ID, "test_id": &cmd.TestID, "type": &cmd.Type} {
			if field, ok := fields[name]; ok {
				_ = json.Unmarshal(field, into) // what is no text counts as absent
			}
		}
		commands = append(commands, cmd)
	}
	return commands
}

// readSettings returns the settings that are texts, as all are in KITT 1.7.
func readSettings(raw map[string]any) map[string]string {
	settings := make(map[string]string, len(raw))
	for name, value := range raw {
		if text, ok := value.(string); ok {
			settings[name] = text
		}
	}
	return settings
}

// Health reports whether the server is there and well.
func (c *Client) Health(ctx context.Context) error {
	var answer struct {
		Status string `json:"status"`
	}
	return c.do(ctx, call{
		method: http.MethodGet, path: "/health",
		answer: &answer, shape: func() bool { return answer.Status == "ok" },
	})
}

// Version returns the version of the server.
func (c *Client) Version(ctx context.Context) (string, error) {
	var answer struct {
		Version string `json:"version"`
	}
	err := c.do(ctx, call{
		method: http.MethodGet, path: "/version",
		answer: &answer, shape: func() bool { return answer.Version != "" },
	})
	return answer.Version, err
}
