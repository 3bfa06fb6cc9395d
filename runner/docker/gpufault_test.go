package docker

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner"
)

// TestGPUFault has what engines say of containers whose GPUs they can't hand out.
func TestGPUFault(t *testing.T) {
	t.Parallel()
	const hook = "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: " +
		"unable to start container process: error during container init: error running prestart hook #0: exit status 1, stdout: , " +
		"stderr: Auto-detected mode as 'legacy'\nnvidia-container-cli: "
	for text, want := range map[string]struct{ reason, fix string }{
		`could not select device driver "" with capabilities: [[gpu]]`:                                   {"Toolkit is missing", "nvidia-ctk runtime configure"},
		hook + "initialization error: nvml error: driver/library version mismatch: unknown":              {"kernel module is still loaded", "restart the machine"},
		hook + "initialization error: nvml error: driver not loaded: unknown":                            {"not loaded", "modprobe nvidia"},
		hook + "initialization error: load library failed: libnvidia-ml.so.1: cannot open shared object": {"not installed", "install the NVIDIA driver"},
		hook + "initialization error: driver rpc error: timed out: unknown":                              {"does not answer", "persistenced"},
		hook + "requirement error: unsatisfied condition: cuda>=12.4, please update your driver":         {"newer NVIDIA driver", "newer NVIDIA driver"},
		hook + "device error: GPU-12345: unknown device: unknown":                                        {"no GPU by a name", "nvidia-smi -L"},
		hook + "something that nobody has seen yet: unknown":                                             {"Toolkit fails", "nvidia-smi"},
		"CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=all":                       {"doesn't name the GPUs", "cdi generate"},
		`exec: "nvidia-container-runtime-hook": executable file not found in $PATH`:                      {"Toolkit fails", "install nvidia-container-toolkit"},
	} {
		err := gpuFault(errors.New(text))
		var e *runner.Error
		require.ErrorAs(t, err, &e, text)
		require.Equal(t, runner.ClassGPURuntime, e.Class)
		require.Contains(t, e.Text, want.reason)
		require.Contains(t, e.Fix, want.fix, text)
	}
	for _, text := range []string{"no space left on device", `exec: "kitt": executable file not found in $PATH`, "unknown device"} {
		require.NoError(t, gpuFault(errors.New(text)), text)
	}
}
