package hwdetect

import (
	"fmt"
	"slices"
)

// A profile is a common machine in short form.
type profile struct {
	name        string
	gpu         string
	gpus        int
	mig         []string // MIG profiles of each GPU; empty if MIG is off
	cpu         CPU
	memory      int64 // bytes
	memoryType  string
	disk        Storage
	environment string
	kernel      string
	driver      string
	cuda        string // of toolkit and driver
}

const gib = 1 << 30

var (
	xeon8480C = CPU{Model: "Intel(R) Xeon(R) Platinum 8480C", Arch: "amd64", Cores: 112, Threads: 224, Sockets: 2}
	epyc7742  = CPU{Model: "AMD EPYC 7742 64-Core Processor", Arch: "amd64", Cores: 128, Threads: 256, Sockets: 2}
	epyc9354  = CPU{Model: "AMD EPYC 9354 32-Core Processor", Arch: "amd64", Cores: 64, Threads: 128, Sockets: 2}
	xeon8570  = CPU{Model: "INTEL(R) XEON(R) PLATINUM 8570", Arch: "amd64", Cores: 112, Threads: 224, Sockets: 2}
	ryzen7950 = CPU{Model: "AMD Ryzen 9 7950X 16-Core Processor", Arch: "amd64", Cores: 16, Threads: 32, Sockets: 1}
	grace     = CPU{Model: "Neoverse-V2", Arch: "arm64", Cores: 72, Threads: 72, Sockets: 1}
	gb10CPU   = CPU{Model: "Cortex-X925", Arch: "arm64", Cores: 20, Threads: 20, Sockets: 1}
	xeon8259  = CPU{Model: "Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz", Arch: "amd64", Cores: 4, Threads: 8, Sockets: 1}
	i7Laptop  = CPU{Model: "Intel(R) Core(TM) i7-1260P", Arch: "amd64", Cores: 12, Threads: 16, Sockets: 1}

	u2Samsung   = Storage{Brand: "Samsung", Model: "SAMSUNG MZQL23T8HCLS-00A07", Type: "nvme"}
	u2Kioxia    = Storage{Brand: "Unknown", Model: "KIOXIA KCD8DRUG3T84", Type: "nvme"}
	m2Samsung   = Storage{Brand: "Samsung", Model: "Samsung SSD 990 PRO 2TB", Type: "nvme"}
	m2SN850     = Storage{Brand: "WD", Model: "WDS200T2X0E", Type: "nvme"}
	sparkDisk   = Storage{Brand: "Samsung", Model: "SAMSUNG MZALC4T0HBL1-00B07", Type: "nvme"}
	cloudDisk   = Storage{Brand: "Unknown", Model: "Amazon Elastic Block Store", Type: "nvme"}
	sataSeagate = Storage{Brand: "Seagate", Model: "Seagate BarraCuda 120 SSD", Type: "ssd"}
)

// profiles are composed from data sheets. The versions in a profile were current
// at the same time.
var profiles = []profile{
	{name: "h100-8", gpu: "NVIDIA H100 80GB HBM3", gpus: 8, cpu: xeon8480C, memory: 2015 * gib, memoryType: "DDR5", disk: u2Samsung, environment: "dgx", kernel: "5.15.0-1042-nvidia", driver: "550.54.15", cuda: "12.4"},
	{name: "h100-1", gpu: "NVIDIA H100 PCIe", gpus: 1, cpu: epyc9354, memory: 503 * gib, memoryType: "DDR5", disk: u2Kioxia, environment: "native_linux", kernel: "6.8.0-60-generic", driver: "570.133.20", cuda: "12.8"},
	{name: "h200-8", gpu: "NVIDIA H200", gpus: 8, cpu: xeon8480C, memory: 2015 * gib, memoryType: "DDR5", disk: u2Samsung, environment: "native_linux", kernel: "6.8.0-60-generic", driver: "570.133.20", cuda: "12.8"},
	{name: "b200-8", gpu: "NVIDIA B200", gpus: 8, cpu: xeon8570, memory: 2015 * gib, memoryType: "DDR5", disk: u2Kioxia, environment: "dgx", kernel: "6.8.0-1025-nvidia", driver: "570.133.20", cuda: "12.8"},
	{name: "a100-1", gpu: "NVIDIA A100-SXM4-40GB", gpus: 1, cpu: epyc7742, memory: 503 * gib, memoryType: "DDR4", disk: u2Samsung, environment: "native_linux", kernel: "5.15.0-140-generic", driver: "550.54.15", cuda: "12.4"},
	{name: "a100-8", gpu: "NVIDIA A100-SXM4-80GB", gpus: 8, cpu: epyc7742, memory: 2015 * gib, memoryType: "DDR4", disk: u2Samsung, environment: "dgx", kernel: "5.15.0-1042-nvidia", driver: "550.54.15", cuda: "12.4"},
	{name: "a100-mig", gpu: "NVIDIA A100-SXM4-40GB", gpus: 1, mig: []string{"3g.20gb", "2g.10gb", "1g.5gb", "1g.5gb"}, cpu: epyc7742, memory: 503 * gib, memoryType: "DDR4", disk: u2Samsung, environment: "native_linux", kernel: "5.15.0-140-generic", driver: "550.54.15", cuda: "12.4"},
	{name: "l40s-4", gpu: "NVIDIA L40S", gpus: 4, cpu: epyc9354, memory: 755 * gib, memoryType: "DDR5", disk: u2Kioxia, environment: "native_linux", kernel: "6.8.0-60-generic", driver: "570.133.20", cuda: "12.8"},
	{name: "l4-1", gpu: "NVIDIA L4", gpus: 1, cpu: xeon8259, memory: 31 * gib, disk: cloudDisk, environment: "docker", kernel: "6.8.0-1029-aws", driver: "550.163.01"},
	{name: "t4-1", gpu: "Tesla T4", gpus: 1, cpu: xeon8259, memory: 31 * gib, disk: cloudDisk, environment: "native_linux", kernel: "6.8.0-1029-aws", driver: "550.163.01"},
	{name: "rtx3090", gpu: "NVIDIA GeForce RTX 3090", gpus: 1, cpu: ryzen7950, memory: 62 * gib, memoryType: "DDR5", disk: sataSeagate, environment: "native_linux", kernel: "6.8.0-60-generic", driver: "550.163.01", cuda: "12.4"},
	{name: "rtx4090", gpu: "NVIDIA GeForce RTX 4090", gpus: 1, cpu: ryzen7950, memory: 62 * gib, memoryType: "DDR5", disk: m2Samsung, environment: "native_linux", kernel: "6.8.0-60-generic", driver: "570.133.20", cuda: "12.8"},
	{name: "rtx4090-2", gpu: "NVIDIA GeForce RTX 4090", gpus: 2, cpu: ryzen7950, memory: 125 * gib, memoryType: "DDR5", disk: m2SN850, environment: "native_linux", kernel: "6.8.0-60-generic", driver: "570.133.20", cuda: "12.8"},
	{name: "rtx5090", gpu: "NVIDIA GeForce RTX 5090", gpus: 1, cpu: ryzen7950, memory: 125 * gib, memoryType: "DDR5", disk: m2Samsung, environment: "native_linux", kernel: "6.11.0-26-generic", driver: "570.133.20", cuda: "12.8"},
	{name: "wsl2", gpu: "NVIDIA GeForce RTX 4090", gpus: 1, cpu: ryzen7950, memory: 31 * gib, disk: Storage{}, environment: "wsl2", kernel: "5.15.167.4-microsoft-standard-WSL2", driver: "572.83"},
	{name: "dgx-spark", gpu: "NVIDIA GB10", gpus: 1, cpu: gb10CPU, memory: 128526249984, memoryType: "LPDDR5X", disk: sparkDisk, environment: "dgx_spark", kernel: "6.11.0-1016-nvidia", driver: "580.95.05", cuda: "13.0"},
	{name: "gh200", gpu: "NVIDIA GH200 480GB", gpus: 1, cpu: grace, memory: 573 * gib, memoryType: "LPDDR5", disk: u2Samsung, environment: "native_linux", kernel: "6.8.0-1025-nvidia-64k", driver: "570.133.20", cuda: "12.8"},
	{name: "cpu-only", cpu: epyc9354, memory: 251 * gib, memoryType: "DDR5", disk: u2Kioxia, environment: "native_linux", kernel: "6.8.0-60-generic"},
	{name: "laptop", cpu: i7Laptop, memory: 15 * gib, memoryType: "DDR4", disk: m2SN850, environment: "native_linux", kernel: "6.11.0-26-generic"},
}

// Profiles returns the names that [Profile] knows, in the order in which a
// program should list them.
func Profiles() []string {
	names := make([]string, len(profiles))
	for i, p := range profiles {
		names[i] = p.name
	}
	return names
}

// Profile returns the named machine, such as h100-8, dgx-spark, rtx4090, a100-mig
// or cpu-only, and whether [Profiles] has that name. Each call returns a new
// Machine, which the caller may change before it is used.
func Profile(name string) (*Machine, bool) {
	i := slices.IndexFunc(profiles, func(p profile) bool { return p.name == name })
	if i < 0 {
		return nil, false
	}
	return profiles[i].machine(1), true
}

// machine returns the full description. The UUIDs of its GPUs depend on seed.
func (p profile) machine(seed uint64) *Machine {
	m := &Machine{
		Hostname:        p.name,
		EnvironmentType: p.environment,
		OS:              "Linux-" + p.kernel,
		Kernel:          "#1 SMP PREEMPT_DYNAMIC",
		GPUs:            []GPU{},
		DriverVersion:   p.driver,
		CUDAVersion:     p.cuda,
		CUDADriver:      p.cuda,
		CPU:             p.cpu,
		MemoryBytes:     p.memory,
		MemoryType:      p.memoryType,
		Storage:         p.disk,
	}
	kind, _ := LookupGPUModel(p.gpu)
	for i := range p.gpus {
		g := GPU{
			Index:             i,
			Model:             kind.Name,
			UUID:              "GPU-" + uuid(seed, uint64(i)),
			PCIBus:            fmt.Sprintf("0000:%02x:00.0", 0x1a+0x10*i),
			MemoryBytes:       kind.MemoryBytes,
			Unified:           kind.Unified,
			ComputeCapability: kind.ComputeCapability,
			PowerLimitW:       kind.PowerW,
		}
		if g.Unified {
			g.MemoryBytes = p.memory
		}
		switch g.ComputeCapability {
		case "8.0", "9.0", "10.0": // the data centre chips that can be partitioned
			g.MIG = &MIG{Enabled: len(p.mig) > 0}
			for j, name := range p.mig {
				g.MIG.Instances = append(g.MIG.Instances, MIGInstance{
					Profile:     name,
					UUID:        "MIG-" + uuid(seed, uint64(i*16+j+1000)),
					MemoryBytes: ProfileMemory(name),
				})
			}
		}
		for peer := range p.gpus {
			if kind.NVLink && peer != i {
				g.NVLinkPeers = append(g.NVLinkPeers, peer)
			}
		}
		p.place(&g)
		m.GPUs = append(m.GPUs, g)
	}
	return m
}

// place attaches a GPU to one of the sockets, each of which is a NUMA node with an equal
// share of the GPUs and of the CPUs. A machine with one socket has no nodes to tell apart.
func (p profile) place(g *GPU) {
	if p.cpu.Sockets < 2 || p.gpus < 2 {
		return
	}
	nodeOf := func(index int) int { return index * p.cpu.Sockets / p.gpus }
	node := nodeOf(g.Index)
	g.NUMANode = &node
	cores := p.cpu.Cores / p.cpu.Sockets
	g.CPUs = fmt.Sprintf("%d-%d", node*cores, (node+1)*cores-1)
	if p.cpu.Threads == 2*p.cpu.Cores {
		g.CPUs += fmt.Sprintf(",%d-%d", p.cpu.Cores+node*cores, p.cpu.Cores+(node+1)*cores-1)
	}
	for peer := range p.gpus {
		path := PathSystem
		if nodeOf(peer) == node {
			path = PathNode
		}
		if peer != g.Index {
			g.Links = append(g.Links, GPULink{Peer: peer, Path: path})
		}
	}
}
