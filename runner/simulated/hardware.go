package simulated

import (
	"errors"
	"fmt"
	"strings"
)

const gib = 1 << 30

// Hardware is the machine that a simulated run claims to run on. It bounds what
// fits, sets how fast it goes, and is what system_info in metrics.json says.
// The zero value is [DefaultHardware]; in any other value a blank text, RAM and
// core count are filled in from it.
type Hardware struct {
	// GPU describes one of the machine's GPUs, which are all alike. With only
	// its Model set the figures are those of [LookupGPU].
	GPU GPU

	// GPUs is how many there are, at most 64. With none, models run on the CPU
	// and system_info says that there is no GPU.
	GPUs int

	CPU            string // the processor's name
	Cores, Threads int    // physical and logical cores

	RAMBytes     int64
	RAMType      string  // such as "DDR5"
	RAMBandwidth float64 // bytes per second; bounds models that run on the CPU. Defaults to 89.6e9

	DiskBrand, DiskModel, DiskType string // such as "Samsung", "Samsung SSD 990 PRO 2TB", "nvme"

	CUDA, Driver string // versions; null in system_info where there is no GPU
	OS, Kernel   string // as Python's platform and uname tell them
	Environment  string // such as "native_linux", "docker", "wsl2"
}

// A GPU is one kind of GPU.
type GPU struct {
	// Model is its name as the driver gives it.
	Model string

	// MemoryBytes is the memory of one GPU.
	MemoryBytes int64

	// Bandwidth of the memory in bytes per second.
	Bandwidth float64

	// FLOPS is the peak of dense FP16 tensor operations a second with FP32
	// accumulation.
	FLOPS float64

	// ComputeCapability is CUDA's, major and minor; zero is told as null.
	ComputeCapability [2]int
}

// DefaultHardware returns the machine that Config has when nothing is said: a
// workstation with one NVIDIA GeForce RTX 4090.
func DefaultHardware() Hardware {
	gpu, _ := LookupGPU("NVIDIA GeForce RTX 4090")
	return Hardware{
		GPU: gpu, GPUs: 1,
		CPU: "AMD Ryzen 9 7950X 16-Core Processor", Cores: 16, Threads: 32,
		// Two channels of DDR5-5600, 8 bytes each: JEDEC JESD79-5.
		RAMBytes: 125 * gib, RAMType: "DDR5", RAMBandwidth: 89.6e9,
		DiskBrand: "Samsung", DiskModel: "Samsung SSD 990 PRO 2TB", DiskType: "nvme",
		CUDA: "12.4", Driver: "550.54.15",
		OS: "Linux-6.8.0-41-generic", Kernel: "#41-Ubuntu SMP PREEMPT_DYNAMIC",
		Environment: "native_linux",
	}
}

func (h Hardware) withDefaults() Hardware {
	d := DefaultHardware()
	if h == (Hardware{}) {
		return d
	}
	if h.GPUs > 0 && h.GPU.Model != "" {
		known, _ := LookupGPU(h.GPU.Model)
		fill(&h.GPU.MemoryBytes, known.MemoryBytes)
		fill(&h.GPU.Bandwidth, known.Bandwidth)
		fill(&h.GPU.FLOPS, known.FLOPS)
		fill(&h.GPU.ComputeCapability, known.ComputeCapability)
	}
	fill(&h.CPU, d.CPU)
	fill(&h.Cores, d.Cores)
	fill(&h.Threads, 2*h.Cores)
	fill(&h.RAMBytes, d.RAMBytes)
	fill(&h.RAMType, d.RAMType)
	fill(&h.RAMBandwidth, d.RAMBandwidth)
	fill(&h.DiskBrand, d.DiskBrand)
	fill(&h.DiskModel, d.DiskModel)
	fill(&h.DiskType, d.DiskType)
	fill(&h.OS, d.OS)
	fill(&h.Kernel, d.Kernel)
	fill(&h.Environment, d.Environment)
	if h.GPUs > 0 {
		fill(&h.CUDA, d.CUDA)
		fill(&h.Driver, d.Driver)
	}
	return h
}

// fill sets *field to value where it is zero.
func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (h Hardware) validate() error {
	var errs []error
	fault := func(bad bool, field string, value any, want string) {
		if bad {
			errs = append(errs, fmt.Errorf("bad Hardware.%s %v: want %s", field, value, want))
		}
	}
	fault(h.GPUs < 0 || h.GPUs > 64, "GPUs", h.GPUs, "0 to 64")
	if h.GPUs > 0 {
		fault(h.GPU.Model == "", "GPU.Model", `""`, "a name, since there are GPUs")
		fault(h.GPU.Model != "" && !between(float64(h.GPU.MemoryBytes), 1<<20, 1<<50), "GPU.MemoryBytes", h.GPU.MemoryBytes, "1 MiB to 1 PiB")
		fault(h.GPU.Model != "" && !between(h.GPU.Bandwidth, 1e9, 1e15), "GPU.Bandwidth", h.GPU.Bandwidth, "1e9 to 1e15 bytes/s")
		fault(h.GPU.Model != "" && !between(h.GPU.FLOPS, 1e10, 1e18), "GPU.FLOPS", h.GPU.FLOPS, "1e10 to 1e18 a second")
	}
	fault(h.Cores < 0 || h.Cores > 1<<16, "Cores", h.Cores, "0 to 65536")
	fault(h.Threads < 0 || h.Threads > 1<<17, "Threads", h.Threads, "0 to 131072")
	fault(!between(float64(h.RAMBytes), 1<<20, 1<<50), "RAMBytes", h.RAMBytes, "1 MiB to 1 PiB")
	fault(!between(h.RAMBandwidth, 1e9, 1e15), "RAMBandwidth", h.RAMBandwidth, "1e9 to 1e15 bytes/s")
	return errors.Join(errs...)
}

// between is false for NaN too.
func between(x, low, high float64) bool { return x >= low && x <= high }

// gpus are the kinds that LookupGPU knows. The key's words must all occur in
// the name that is asked for; among several keys the one with the most words
// wins.
//
// Memory is the vendor's figure taken as GiB, which is within 3% of what NVML
// reports; GB10 shares the RAM of its machine. Figures come from NVIDIA's
// datasheets of the data-centre parts (H100, H200, HGX B200, GH200, A100, A40,
// A30, A10, L40S, L40, L4, T4, V100), where those list sparse rates only half
// of them; from the appendices of the GA102, Ada and RTX Blackwell architecture
// whitepapers for GeForce and RTX parts ("Peak FP16 Tensor TFLOPS with FP32
// Accumulate", dense); from AWS's G5 page for the A10G; from the DGX Spark and
// Jetson AGX Orin datasheets, scaled down from the precision they give to dense
// FP16. Compute capabilities: the table at developer.nvidia.com/cuda-gpus.
var gpus = [...]struct {
	key string
	GPU
}{
	{"b200", GPU{"NVIDIA B200", 180 * gib, 7.7e12, 2250e12, [2]int{10, 0}}},
	{"gh200", GPU{"NVIDIA GH200 480GB", 96 * gib, 4.0e12, 989e12, [2]int{9, 0}}},
	{"h200", GPU{"NVIDIA H200", 141 * gib, 4.8e12, 989e12, [2]int{9, 0}}},
	{"h100", GPU{"NVIDIA H100 80GB HBM3", 80 * gib, 3.35e12, 989e12, [2]int{9, 0}}},
	{"h100 nvl", GPU{"NVIDIA H100 NVL", 94 * gib, 3.9e12, 835e12, [2]int{9, 0}}},
	{"h100 pcie", GPU{"NVIDIA H100 PCIe", 80 * gib, 2.0e12, 756e12, [2]int{9, 0}}},
	{"a100", GPU{"NVIDIA A100-SXM4-80GB", 80 * gib, 2.039e12, 312e12, [2]int{8, 0}}},
	{"a100 pcie", GPU{"NVIDIA A100 80GB PCIe", 80 * gib, 1.935e12, 312e12, [2]int{8, 0}}},
	{"a100 40gb", GPU{"NVIDIA A100-SXM4-40GB", 40 * gib, 1.555e12, 312e12, [2]int{8, 0}}},
	{"a100 pcie 40gb", GPU{"NVIDIA A100-PCIE-40GB", 40 * gib, 1.555e12, 312e12, [2]int{8, 0}}},
	{"a40", GPU{"NVIDIA A40", 48 * gib, 696e9, 149.7e12, [2]int{8, 6}}},
	{"a30", GPU{"NVIDIA A30", 24 * gib, 933e9, 165e12, [2]int{8, 0}}},
	{"a10", GPU{"NVIDIA A10", 24 * gib, 600e9, 125e12, [2]int{8, 6}}},
	{"a10g", GPU{"NVIDIA A10G", 24 * gib, 600e9, 70e12, [2]int{8, 6}}},
	{"l40s", GPU{"NVIDIA L40S", 48 * gib, 864e9, 362e12, [2]int{8, 9}}},
	{"l40", GPU{"NVIDIA L40", 48 * gib, 864e9, 181e12, [2]int{8, 9}}},
	{"l4", GPU{"NVIDIA L4", 24 * gib, 300e9, 121e12, [2]int{8, 9}}},
	{"t4", GPU{"Tesla T4", 16 * gib, 300e9, 65e12, [2]int{7, 5}}},
	{"v100", GPU{"Tesla V100-SXM2-16GB", 16 * gib, 900e9, 125e12, [2]int{7, 0}}},
	{"v100 32gb", GPU{"Tesla V100-SXM2-32GB", 32 * gib, 900e9, 125e12, [2]int{7, 0}}},
	{"rtx pro 6000", GPU{"NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 96 * gib, 1.792e12, 503.8e12, [2]int{12, 0}}},
	{"rtx 6000 ada", GPU{"NVIDIA RTX 6000 Ada Generation", 48 * gib, 960e9, 364.2e12, [2]int{8, 9}}},
	{"a6000", GPU{"NVIDIA RTX A6000", 48 * gib, 768e9, 154.8e12, [2]int{8, 6}}},
	{"a5000", GPU{"NVIDIA RTX A5000", 24 * gib, 768e9, 111.1e12, [2]int{8, 6}}},
	{"5090", GPU{"NVIDIA GeForce RTX 5090", 32 * gib, 1.792e12, 209.5e12, [2]int{12, 0}}},
	{"5080", GPU{"NVIDIA GeForce RTX 5080", 16 * gib, 960e9, 112.6e12, [2]int{12, 0}}},
	{"4090", GPU{"NVIDIA GeForce RTX 4090", 24 * gib, 1.008e12, 165.2e12, [2]int{8, 9}}},
	{"4080", GPU{"NVIDIA GeForce RTX 4080", 16 * gib, 716.8e9, 97.5e12, [2]int{8, 9}}},
	{"4070 ti", GPU{"NVIDIA GeForce RTX 4070 Ti", 12 * gib, 504.2e9, 80.2e12, [2]int{8, 9}}},
	{"3090", GPU{"NVIDIA GeForce RTX 3090", 24 * gib, 936.2e9, 71e12, [2]int{8, 6}}},
	{"3080", GPU{"NVIDIA GeForce RTX 3080", 10 * gib, 760.3e9, 59.5e12, [2]int{8, 6}}},
	{"gb10", GPU{"NVIDIA GB10", 119 * gib, 273e9, 125e12, [2]int{12, 1}}},
	{"orin", GPU{"Orin", 61 * gib, 204.8e9, 42.5e12, [2]int{8, 7}}},
}

// LookupGPU returns the figures of the GPU that name speaks of, in whatever
// spelling ("H100", "NVIDIA H100 80GB HBM3", "rtx4090"); its Model is name as
// given. For a name that it doesn't know ok is false and the figures are those
// of a middling GPU: 24 GiB, 600 GB/s, 125 TFLOPS.
func LookupGPU(name string) (gpu GPU, ok bool) {
	have := words(strings.ReplaceAll(strings.ToLower(name), "rtx", "rtx "))
	gpu = GPU{MemoryBytes: 24 * gib, Bandwidth: 600e9, FLOPS: 125e12, ComputeCapability: [2]int{8, 6}}
	most := 0
	for _, known := range gpus {
		want := strings.Fields(known.key)
		if len(want) > most && containsAll(have, want) {
			gpu, most = known.GPU, len(want)
		}
	}
	gpu.Model = name
	return gpu, most > 0
}

// KnownGPUs returns the GPUs that [LookupGPU] knows, under the names that
// their driver gives them.
func KnownGPUs() []GPU {
	known := make([]GPU, len(gpus))
	for i := range gpus {
		known[i] = gpus[i].GPU
	}
	return known
}
