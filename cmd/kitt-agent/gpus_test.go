package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/hwdetect"
)

// TestWriteGPUs shows sets, holders, health and processes.
func TestWriteGPUs(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, writeGPUs(&out, &agent.GPUs{
		Devices: []agent.GPUDevice{
			{
				Index: 0, UUID: "GPU-a", Model: "NVIDIA H200", NUMANode: new(0), Holders: []string{"job-1"},
				Reading:   hwdetect.GPUTelemetry{UtilizationPct: new(97.0), MemoryUsedBytes: new(int64(64 << 30)), TemperatureC: new(61.0)},
				Processes: []hwdetect.GPUProcess{{GPU: 0, PID: 42, Command: "python\x1b[31m", Owner: "kitt", Kind: "compute", SMPct: new(96.0)}},
			},
			{Index: 1, UUID: "GPU-b", Model: "NVIDIA H200", NUMANode: new(1), Fault: "the GPU has fallen off the bus"},
			{Index: 2, UUID: "MIG-c", Model: "NVIDIA H200", MIG: "1g.18gb"},
		},
		Sets: []agent.GPUSet{
			{Devices: []string{"GPU-a"}, Holder: "job-1"},
			{Devices: []string{"GPU-b"}, Fault: "GPU 1: the GPU has fallen off the bus"},
		},
		OtherGPUs: []hwdetect.OtherGPU{{Vendor: "AMD", Model: "Instinct MI300X", PCIBus: "0000:05:00.0", MemoryBytes: 192 << 30}},
	}))
	golden(t, "gpus.txt", out.Bytes())
}
