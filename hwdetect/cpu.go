package hwdetect

import (
	"errors"
	"io/fs"
	"runtime"
	"strings"
)

// detectCPU describes the online processors, from proc/cpuinfo. ARM kernels
// leave the topology out of that file, so it also reads sys/devices/system/cpu.
func detectCPU(root fs.FS) (CPU, error) {
	text, err := readFile(root, "proc/cpuinfo")
	if err != nil {
		return CPU{}, errors.New("proc/cpuinfo: " + reason(err))
	}
	list := parseCPUInfo(text)
	cpu := CPU{Arch: detectArch(root, list), Threads: len(list)}
	if len(list) == 0 {
		return cpu, errors.New("proc/cpuinfo lists no processor")
	}
	cpu.Model = cpuModel(root, list)
	cpu.Cores, cpu.Sockets = countCores(root, list)
	if cpu.Model == "" {
		err = errors.New("proc/cpuinfo has no model name")
	}
	return cpu, err
}

// A processor is one logical CPU in proc/cpuinfo.
type processor struct {
	id        string // "processor"
	model     string // "model name", "cpu model" or "Processor"
	socket    string // "physical id"
	core      string // "core id"
	implement string // "CPU implementer", ARM's number for a manufacturer
	part      string // "CPU part", the manufacturer's number for a design
	x86       bool   // whether it has a "vendor_id"
}

// parseCPUInfo reads the text of /proc/cpuinfo (proc_cpuinfo(5)).
func parseCPUInfo(text string) []processor {
	var all []processor
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if key == "processor" {
			all = append(all, processor{id: value})
			continue
		}
		if len(all) == 0 {
			continue
		}
		p := &all[len(all)-1]
		switch key {
		case "model name", "cpu model":
			p.model = value
		case "physical id":
			p.socket = value
		case "core id":
			p.core = value
		case "vendor_id":
			p.x86 = true
		case "CPU implementer":
			p.implement = value
		case "CPU part":
			p.part = value
		}
	}
	return all
}

// detectArch returns the architecture by Docker's name. Linux 6.1 and newer
// report it; for older kernels it follows from the fields of proc/cpuinfo.
func detectArch(root fs.FS, list []processor) string {
	switch arch := readLine(root, "proc/sys/kernel/arch"); arch {
	case "":
	case "x86_64":
		return "amd64"
	case "aarch64":
		return "arm64"
	default:
		return arch
	}
	if len(list) > 0 {
		switch {
		case list[0].x86:
			return "amd64"
		case list[0].implement != "":
			return "arm64"
		}
	}
	return runtime.GOARCH
}

// cpuModel returns the name of the processor. ARM systems report numbers
// (MIDR_EL1) instead of a name. Where cores differ, as in GB10, it is the name
// of the fastest one.
func cpuModel(root fs.FS, list []processor) string {
	var best string
	var bestSpeed int64 = -1
	for _, p := range list {
		name := p.model
		if name == "" {
			name = armCore(p.implement, p.part)
		}
		if name == "" || name == best {
			continue
		}
		if best == "" {
			best, bestSpeed = name, cpuSpeed(root, p.id)
			continue
		}
		if s := cpuSpeed(root, p.id); s > bestSpeed {
			best, bestSpeed = name, s
		}
	}
	return best
}

// cpuSpeed returns a number that is higher for faster cores, or 0.
func cpuSpeed(root fs.FS, id string) int64 {
	dir := "sys/devices/system/cpu/cpu" + id
	if c := number(readLine(root, dir+"/cpu_capacity")); c > 0 {
		return c
	}
	return number(readLine(root, dir+"/cpufreq/cpuinfo_max_freq"))
}

// armCore returns the name of an ARM core as lscpu prints it (util-linux,
// sys-utils/lscpu-arm.c). It knows the cores of machines that have GPUs.
func armCore(implementer, part string) string {
	switch implementer {
	case "0x41": // ARM
		return map[string]string{
			"0xd03": "Cortex-A53", "0xd05": "Cortex-A55", "0xd07": "Cortex-A57", "0xd08": "Cortex-A72",
			"0xd0b": "Cortex-A76", "0xd0c": "Neoverse-N1", "0xd40": "Neoverse-V1", "0xd42": "Cortex-A78AE",
			"0xd49": "Neoverse-N2", "0xd4f": "Neoverse-V2", "0xd83": "Neoverse-V3AE", "0xd84": "Neoverse-V3",
			"0xd85": "Cortex-X925", "0xd87": "Cortex-A725", "0xd8e": "Neoverse-N3",
		}[part]
	case "0x4e": // NVIDIA
		return map[string]string{"0x003": "Denver 2", "0x004": "Carmel", "0x010": "Olympus"}[part]
	case "0xc0": // Ampere Computing
		return map[string]string{"0xac3": "Ampere-1", "0xac4": "Ampere-1a"}[part]
	}
	return ""
}

// countCores returns the number of physical cores and of sockets.
func countCores(root fs.FS, list []processor) (cores, sockets int) {
	coreSet, socketSet := make(map[string]bool), make(map[string]bool)
	for _, p := range list {
		if p.core != "" {
			coreSet[p.socket+"/"+p.core] = true
			socketSet[p.socket] = true
			continue
		}
		topology := "sys/devices/system/cpu/cpu" + p.id + "/topology/"
		siblings := readLine(root, topology+"core_cpus_list")
		if siblings == "" {
			siblings = readLine(root, topology+"thread_siblings_list") // its name before Linux 5.3
		}
		if siblings == "" {
			siblings = p.id
		}
		coreSet["cpus "+siblings] = true
		if s := readLine(root, topology+"physical_package_id"); s != "" && s != "-1" {
			socketSet[s] = true
		}
	}
	return len(coreSet), len(socketSet)
}
