package docker

import (
	"strings"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
)

const (
	fixToolkit = "install nvidia-container-toolkit, then run: sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker"
	fixDriver  = "restart the machine; until then nvidia-smi fails too"
	fixCDI     = "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"
)

// gpuFaults are texts in what the engine says of a container that it can't start, of
// dockerd, runc and nvidia-container-cli, the most telling first.
var gpuFaults = []struct{ text, reason, fix string }{
	{"could not select device driver", "the NVIDIA Container Toolkit is missing or not set up", fixToolkit},
	{"driver/library version mismatch", "the NVIDIA driver was updated and its older kernel module is still loaded", fixDriver},
	{"driver not loaded", "the NVIDIA driver's kernel module is not loaded", "sudo modprobe nvidia, or restart the machine; nvidia-smi says more"},
	{"libnvidia-ml.so", "the NVIDIA driver is not installed on this machine", "install the NVIDIA driver, until nvidia-smi works"},
	{"driver rpc error", "the NVIDIA driver does not answer", "sudo systemctl restart nvidia-persistenced, or restart the machine"},
	{"unsatisfied condition", "the image needs a newer NVIDIA driver than this machine has", "install a newer NVIDIA driver, or use an image for an older CUDA"},
	{"unknown device", "the machine has no GPU by a name that the job asks for", "nvidia-smi -L lists the GPUs; correct gpus in agent.yaml"},
	{"unresolvable CDI devices", "the machine's CDI specification doesn't name the GPUs", fixCDI},
	{"CDI device injection failed", "the machine's CDI specification doesn't fit its driver", fixCDI},
	{"bpf_prog_query(BPF_CGROUP_DEVICE) failed", "the NVIDIA Container Toolkit is too old for this kernel's cgroups", "install a newer nvidia-container-toolkit"},
	{"nvidia-container-cli", "the NVIDIA Container Toolkit fails", "nvidia-smi and nvidia-container-cli info say more"},
	{"nvidia-container-runtime", "the NVIDIA Container Toolkit fails", fixToolkit},
}

// gpuFault returns what is wrong with the GPUs if err, of a container's start, says so,
// and nil if it is about something else.
func gpuFault(err error) error {
	text := err.Error()
	for _, f := range gpuFaults {
		// The others are words that a benchmark's own path may hold.
		if !strings.Contains(text, f.text) || !mentionsGPU(text) {
			continue
		}
		return &runner.Error{
			Class: runner.ClassGPURuntime,
			Text:  "the Docker engine can't give a container the GPUs, because " + f.reason + ": " + base.Printable(base.OneLine(text), maxGPUText),
			Fix:   f.fix,
			Err:   err,
		}
	}
	return nil
}

// maxGPUText bounds what is quoted of the engine, in bytes.
const maxGPUText = 600

func mentionsGPU(text string) bool {
	for _, word := range []string{"could not select device driver", "nvidia", "CDI"} {
		if strings.Contains(text, word) {
			return true
		}
	}
	return false
}
