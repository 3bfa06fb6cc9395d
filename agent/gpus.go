package agent

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/agent/internal/gpusets"
	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/hwdetect"
)

// processesTimeout bounds how long [Agent.GPUs] waits for the list of processes.
const processesTimeout = 5 * time.Second

// GPUs are the machine's GPUs and who has them, as GET /api/gpus returns it.
type GPUs struct {
	Devices   []GPUDevice         `json:"devices"`
	Sets      []GPUSet            `json:"sets"`       // empty if each benchmark has all GPUs
	OtherGPUs []hwdetect.OtherGPU `json:"other_gpus"` // of AMD and Intel, which benchmarks do not get
	Processes string              `json:"processes"`  // why none are listed; empty if they are
}

// A GPUDevice is what a benchmark can have: a GPU, or a MIG instance of one.
type GPUDevice struct {
	Index     int                   `json:"index"` // of the GPU
	UUID      string                `json:"uuid"`
	Model     string                `json:"model"`
	MIG       string                `json:"mig,omitempty"` // profile of the instance; empty for a whole GPU
	NUMANode  *int                  `json:"numa_node,omitempty"`
	CPUs      string                `json:"cpus,omitempty"`    // close to it, as in cpuset(7)
	Holders   []string              `json:"holders,omitempty"` // command ids of the jobs that have it
	Fault     string                `json:"fault,omitempty"`   // why no job gets it
	Reading   hwdetect.GPUTelemetry `json:"reading"`           // of the GPU, as of the last half minute
	Processes []hwdetect.GPUProcess `json:"processes"`         // on the GPU; of MIG instances together
}

// A GPUSet is GPUs that one benchmark has for itself.
type GPUSet struct {
	Devices []string `json:"devices"`          // by UUID; as they are configured where that is not known
	Holder  string   `json:"holder,omitempty"` // command id of the job that has them
	Fault   string   `json:"fault,omitempty"`  // why no job gets them
}

// GPUs returns the machine's GPUs as they are known now. It waits for the list of
// processes, for a few seconds at most.
func (a *Agent) GPUs(ctx context.Context) GPUs {
	host := a.host.Latest()
	report := GPUs{Devices: []GPUDevice{}, Sets: a.gpuSets(), OtherGPUs: []hwdetect.OtherGPU{}}
	if host.Machine == nil {
		report.Processes = "the machine is not known yet"
		return report
	}
	report.OtherGPUs = append(report.OtherGPUs, host.Machine.OtherGPUs...)
	processes, err := a.gpuProcesses(ctx)
	if err != nil {
		report.Processes = err.Error()
	}
	for _, d := range gpusets.Devices(host.Machine) {
		g := GPUDevice{
			Index: d.GPU.Index, UUID: d.UUID, Model: d.GPU.Model, MIG: d.Profile, NUMANode: d.GPU.NUMANode, CPUs: d.GPU.CPUs,
			Fault: d.Fault, Holders: a.holders(d), Processes: []hwdetect.GPUProcess{},
		}
		for _, r := range host.Telemetry.GPUs {
			if r.Index == g.Index {
				g.Reading = r
			}
		}
		for _, p := range processes {
			if p.GPU == g.Index {
				g.Processes = append(g.Processes, p)
			}
		}
		report.Devices = append(report.Devices, g)
	}
	return report
}

// gpuProcesses returns the processes on the GPUs.
func (a *Agent) gpuProcesses(ctx context.Context) ([]hwdetect.GPUProcess, error) {
	reader, ok := a.cfg.Detector.(hwdetect.ProcessReader)
	if !ok {
		return nil, hwdetect.ErrAbsent
	}
	ctx, cancel := context.WithTimeout(ctx, processesTimeout)
	defer cancel()
	return reader.Processes(ctx)
}

// holders returns the jobs that have a device: one that has it for itself, or all that
// run where benchmarks have all GPUs.
func (a *Agent) holders(d gpusets.Device) (ids []string) {
	for _, j := range a.queue.Active() {
		own := j.Record().GPUs
		if j.IsBenchmark() && (slices.Contains(own, d.UUID) || len(own) == 0 && j.State() == jobs.StateRunning && len(a.gpus()) > 0) {
			ids = append(ids, j.ID)
		}
	}
	return ids
}

// gpuSets returns the sets as they are now; none if each benchmark has all GPUs.
func (a *Agent) gpuSets() []GPUSet {
	sets := []GPUSet{}
	if a.sets == nil {
		return sets
	}
	for _, s := range a.sets.Sets() {
		sets = append(sets, GPUSet(s))
	}
	return sets
}

// gpuSetFaults returns a sentence for each set that no job gets.
func (a *Agent) gpuSetFaults() (warnings []string) {
	if a.host.Description() == nil {
		return nil
	}
	for _, s := range a.gpuSets() {
		if s.Fault != "" {
			warnings = append(warnings, "No job gets the GPUs "+strings.Join(s.Devices, ", ")+": "+s.Fault)
		}
	}
	return warnings
}

func (a *api) getGPUs(w http.ResponseWriter, r *http.Request) {
	answer(w, http.StatusOK, a.GPUs(r.Context()))
}
