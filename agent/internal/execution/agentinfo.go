package execution

import (
	"encoding/json"
	"slices"
	"strconv"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/runner"
)

// AgentKey is the key of result data under which the agent says what it knows about
// a run. What a benchmark writes there is replaced.
const AgentKey = "agent"

// AgentSchema names the form of what is under AgentKey.
const AgentSchema = "kitt-agent/result/1"

// maxAgentInfo bounds what is under AgentKey, in bytes of JSON.
const maxAgentInfo = 32 << 10

// maxGPUs is how many GPUs are listed.
const maxGPUs = 256

// An Identity says which agent this is.
type Identity struct {
	Name    string
	ID      string // the server's for this agent; empty before it gave one
	Version string
	Machine *hwdetect.Machine // nil if it is not known
}

// agentInfo is what is under AgentKey. A text that is not known is left out.
type agentInfo struct {
	Schema    string `json:"schema"`
	Name      string `json:"name"` // of the agent
	ID        string `json:"id,omitempty"`
	Version   string `json:"version,omitempty"`
	CommandID string `json:"command_id"`
	TestID    string `json:"test_id,omitempty"`

	Model       string `json:"model"`                // as requested
	ModelPath   string `json:"model_path,omitempty"` // what the benchmark ran on
	ModelOrigin string `json:"model_origin,omitempty"`
	ModelHash   string `json:"model_hash,omitempty"`
	Engine      string `json:"engine,omitempty"`
	EngineMode  string `json:"engine_mode,omitempty"` // as requested
	Suite       string `json:"suite,omitempty"`
	Benchmark   string `json:"benchmark,omitempty"`
	Profile     string `json:"profile,omitempty"`

	Runner      string           `json:"runner,omitempty"`
	Image       *imageInfo       `json:"image,omitempty"`
	Fingerprint string           `json:"fingerprint,omitempty"` // of the machine
	GPUs        []gpuInfo        `json:"gpus,omitempty"`        // that the run got
	GPUsSeen    *int             `json:"gpus_seen,omitempty"`   // how many it could see from inside
	Neighbours  []jobs.Neighbour `json:"neighbours,omitempty"`  // benchmarks of this agent that ran at the same time

	Machine *jobs.Machine `json:"integrity,omitempty"` // whether it was fit to be measured; details are under IntegrityKey
}

// imageInfo is the container image that the run had.
type imageInfo struct {
	Name   string `json:"name,omitempty"`
	ID     string `json:"id"`
	Digest string `json:"digest,omitempty"` // name@sha256:…, of an image that came from a registry
}

type gpuInfo struct {
	Index       int    `json:"index"`
	UUID        string `json:"uuid,omitempty"`
	Model       string `json:"model"`
	MemoryBytes int64  `json:"memory_bytes"`
	MIG         string `json:"mig,omitempty"` // the profile, of an instance
}

// agentInfo returns what the agent knows about the run, as decoded JSON of at most
// maxAgentInfo bytes.
func (x *execution) agentInfo() map[string]any {
	id, spec, rec := x.cfg.Identity(), x.job.Command.Spec, x.job.Record()
	info := agentInfo{
		Schema: AgentSchema, Name: id.Name, ID: id.ID, Version: id.Version, CommandID: x.job.ID, TestID: rec.TestID,
		Model: spec.Model, ModelPath: rec.ModelPath, ModelOrigin: rec.ModelOrigin, ModelHash: rec.ModelHash, Engine: spec.Engine, EngineMode: spec.Mode, Suite: spec.Suite,
		Benchmark: spec.Benchmark, Profile: string(spec.Profile),
	}
	if o := rec.Outcome; o != nil {
		info.Runner, info.Machine, info.GPUsSeen = o.Runner, o.Machine, o.SeenGPUs
		if o.Image.ID != "" {
			info.Image = &imageInfo{o.Image.Name, o.Image.ID, o.Image.Digest}
		}
	}
	info.Neighbours = rec.Neighbours
	if id.Machine != nil {
		info.Fingerprint = id.Machine.Fingerprint()
		info.GPUs = gpusOf(id.Machine, x.gpus())
	}
	return info.bounded()
}

// gpusOf lists the GPUs that a run got.
func gpusOf(m *hwdetect.Machine, got []string) (list []gpuInfo) {
	for _, g := range m.GPUs {
		if slices.Contains(got, runner.AllGPUs) || slices.Contains(got, g.UUID) || slices.Contains(got, strconv.Itoa(g.Index)) {
			list = append(list, gpuInfo{Index: g.Index, UUID: g.UUID, Model: g.Model, MemoryBytes: g.MemoryBytes})
		}
		if g.MIG == nil {
			continue
		}
		for _, i := range g.MIG.Instances {
			if slices.Contains(got, i.UUID) {
				list = append(list, gpuInfo{g.Index, i.UUID, g.Model, i.MemoryBytes, i.Profile})
			}
		}
	}
	return list
}

// bounded returns info as decoded JSON. Its texts are cut until it is small enough.
func (info agentInfo) bounded() (decoded map[string]any) {
	for limit := 4096; ; limit /= 2 {
		data, err := json.Marshal(info.cut(limit))
		if err == nil && len(data) <= maxAgentInfo && json.Unmarshal(data, &decoded) == nil {
			return decoded
		}
		if limit == 1 {
			return map[string]any{"schema": AgentSchema}
		}
	}
}

// cut returns info with texts of at most limit bytes, and at most as many GPUs.
func (info agentInfo) cut(limit int) agentInfo {
	image := imageInfo{}
	if info.Image != nil {
		image = *info.Image
		info.Image = &image
	}
	machine := jobs.Machine{}
	if info.Machine != nil {
		machine = *info.Machine
		info.Machine = &machine
	}
	info.GPUs = slices.Clone(info.GPUs[:min(len(info.GPUs), maxGPUs, limit)])
	info.Neighbours = slices.Clone(info.Neighbours[:min(len(info.Neighbours), limit)])
	texts := []*string{
		&info.Name, &info.ID, &info.Version, &info.CommandID, &info.TestID, &info.Model, &info.ModelPath, &info.ModelOrigin, &info.ModelHash, &info.Engine,
		&info.EngineMode, &info.Suite, &info.Benchmark, &info.Profile, &info.Runner, &info.Fingerprint, &image.Name, &image.ID, &image.Digest,
		&machine.Text,
	}
	for i := range info.GPUs {
		texts = append(texts, &info.GPUs[i].UUID, &info.GPUs[i].Model)
	}
	for i := range info.Neighbours {
		texts = append(texts, &info.Neighbours[i].Job, &info.Neighbours[i].Overlap)
	}
	for _, text := range texts {
		*text = jobs.Cut(*text, limit)
	}
	return info
}
