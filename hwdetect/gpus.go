package hwdetect

import "strings"

// A GPUModel holds the peak figures of a GPU model. Simulated benchmarks and
// random machines use them.
type GPUModel struct {
	Name              string  // as NVML reports it
	MemoryBytes       int64   // as NVML reports it; 0 with Unified
	Unified           bool    // whether it shares the machine's RAM
	ComputeCapability string  // such as 9.0
	PowerW            float64 // default power limit
	BandwidthGBps     float64 // memory bandwidth in 10^9 bytes per second
	FP16TFLOPS        float64 // dense FP16 or BF16 on tensor cores with FP32 accumulation, in 10^12 operations per second
	NVLink            bool    // whether several in one machine are joined by NVLink
}

// gpuModels has the figures of NVIDIA's data sheets for the named product,
// without sparsity. Memory is what nvidia-smi shows in MiB.
var gpuModels = []GPUModel{
	// H100, H200 and B200: HGX and DGX data sheets. B200 as in DGX B200.
	{Name: "NVIDIA H100 80GB HBM3", MemoryBytes: 81559 << 20, ComputeCapability: "9.0", PowerW: 700, BandwidthGBps: 3350, FP16TFLOPS: 989, NVLink: true},
	{Name: "NVIDIA H100 PCIe", MemoryBytes: 81559 << 20, ComputeCapability: "9.0", PowerW: 350, BandwidthGBps: 2000, FP16TFLOPS: 756},
	{Name: "NVIDIA H200", MemoryBytes: 143771 << 20, ComputeCapability: "9.0", PowerW: 700, BandwidthGBps: 4800, FP16TFLOPS: 989, NVLink: true},
	{Name: "NVIDIA B200", MemoryBytes: 183359 << 20, ComputeCapability: "10.0", PowerW: 1000, BandwidthGBps: 8000, FP16TFLOPS: 2250, NVLink: true},
	// Grace Hopper Superchip data sheet, the 96 GB variant.
	{Name: "NVIDIA GH200 480GB", MemoryBytes: 97871 << 20, ComputeCapability: "9.0", PowerW: 900, BandwidthGBps: 4000, FP16TFLOPS: 989},
	// A100 data sheet.
	{Name: "NVIDIA A100-SXM4-40GB", MemoryBytes: 40960 << 20, ComputeCapability: "8.0", PowerW: 400, BandwidthGBps: 1555, FP16TFLOPS: 312, NVLink: true},
	{Name: "NVIDIA A100-SXM4-80GB", MemoryBytes: 81920 << 20, ComputeCapability: "8.0", PowerW: 400, BandwidthGBps: 2039, FP16TFLOPS: 312, NVLink: true},
	// L4 and L40S data sheets; T4 data sheet.
	{Name: "NVIDIA L40S", MemoryBytes: 46068 << 20, ComputeCapability: "8.9", PowerW: 350, BandwidthGBps: 864, FP16TFLOPS: 362},
	{Name: "NVIDIA L4", MemoryBytes: 23034 << 20, ComputeCapability: "8.9", PowerW: 72, BandwidthGBps: 300, FP16TFLOPS: 121},
	{Name: "Tesla T4", MemoryBytes: 15360 << 20, ComputeCapability: "7.5", PowerW: 70, BandwidthGBps: 320, FP16TFLOPS: 65},
	// GeForce: the Ampere, Ada and Blackwell architecture papers.
	{Name: "NVIDIA GeForce RTX 3090", MemoryBytes: 24576 << 20, ComputeCapability: "8.6", PowerW: 350, BandwidthGBps: 936, FP16TFLOPS: 71},
	{Name: "NVIDIA GeForce RTX 4090", MemoryBytes: 24564 << 20, ComputeCapability: "8.9", PowerW: 450, BandwidthGBps: 1008, FP16TFLOPS: 165},
	{Name: "NVIDIA GeForce RTX 5090", MemoryBytes: 32607 << 20, ComputeCapability: "12.0", PowerW: 575, BandwidthGBps: 1792, FP16TFLOPS: 209},
	// DGX Spark data sheet: 1 PFLOP of sparse FP4, an eighth of which is dense FP16.
	{Name: "NVIDIA GB10", Unified: true, ComputeCapability: "12.1", BandwidthGBps: 273, FP16TFLOPS: 125},
}

// GPUModels returns all known GPU models, in a new slice.
func GPUModels() []GPUModel { return append([]GPUModel(nil), gpuModels...) }

// LookupGPUModel returns the GPU model with the given name, and whether it is
// known. It ignores case and a leading "NVIDIA ".
func LookupGPUModel(name string) (GPUModel, bool) {
	plain := func(s string) string { return strings.TrimPrefix(strings.ToLower(strings.TrimSpace(s)), "nvidia ") }
	for _, m := range gpuModels {
		if plain(m.Name) == plain(name) {
			return m, true
		}
	}
	return GPUModel{}, false
}
