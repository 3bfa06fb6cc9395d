package hwdetect

import (
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// A GPULink is the path over PCIe from one GPU to another. NVLink is apart from it, in
// [GPU].NVLinkPeers.
type GPULink struct {
	Peer int  `json:"peer"` // index of the other GPU
	Path Path `json:"path"`
}

// A Path is the lowest part of a machine that two GPUs share, in the words of
// nvidia-smi topo -m, the closest first.
type Path string

// The paths. NVML calls them NVML_TOPOLOGY_INTERNAL and so on.
const (
	PathBoard    Path = "PSB"  // one board
	PathSwitch   Path = "PIX"  // one PCIe switch
	PathSwitches Path = "PXB"  // several PCIe switches, without a host bridge
	PathBridge   Path = "PHB"  // a PCIe host bridge, which is usually the CPU
	PathNode     Path = "NODE" // several host bridges of one NUMA node
	PathSystem   Path = "SYS"  // several NUMA nodes
)

// Closeness returns how close two GPUs are, from 0 for those that share only the machine,
// or of which nothing is known, to 6 for those that are joined by NVLink.
func (g GPU) Closeness(other GPU) int {
	if slices.Contains(g.NVLinkPeers, other.Index) || slices.Contains(other.NVLinkPeers, g.Index) {
		return 6
	}
	closest := 0
	for _, l := range g.Links {
		if l.Peer == other.Index {
			closest = l.Path.closeness()
		}
	}
	if closest == 0 && g.NUMANode != nil && other.NUMANode != nil && *g.NUMANode == *other.NUMANode {
		return PathNode.closeness()
	}
	return closest
}

func (p Path) closeness() int {
	order := []Path{PathSystem, PathNode, PathBridge, PathSwitches, PathSwitch, PathBoard}
	return max(0, slices.Index(order, p))
}

// place sets the NUMA node and the CPUs of GPUs that inv has none for, as the kernel
// shows them for their PCI addresses (Documentation/ABI/testing/sysfs-bus-pci).
func (inv *Inventory) place(root fs.FS) {
	for i := range inv.GPUs {
		g := &inv.GPUs[i]
		if g.PCIBus == "" || !fs.ValidPath(g.PCIBus) {
			continue
		}
		dir := "sys/bus/pci/devices/" + g.PCIBus + "/"
		if node, err := strconv.Atoi(readLine(root, dir+"numa_node")); err == nil && node >= 0 && g.NUMANode == nil {
			g.NUMANode = &node // -1 is a machine with one node, or firmware that tells none
		}
		if cpus, err := ParseCPUs(readLine(root, dir+"local_cpulist")); err == nil && g.CPUs == "" {
			g.CPUs = FormatCPUs(cpus)
		}
	}
}

// maxCPU is the highest number of a CPU or NUMA node that is accepted. Linux has at most
// 8192 CPUs.
const maxCPU = 1<<16 - 1

// ParseCPUs returns the numbers in a list of CPUs or NUMA nodes in the form of cpuset(7),
// such as 0-3,8, sorted and each once.
func ParseCPUs(list string) ([]int, error) {
	seen := map[int]bool{}
	for part := range strings.SplitSeq(strings.TrimSpace(list), ",") {
		if part == "" {
			continue
		}
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		first, err1 := strconv.ParseUint(strings.TrimSpace(from), 10, 32)
		last, err2 := strconv.ParseUint(strings.TrimSpace(to), 10, 32)
		if err1 != nil || err2 != nil || last < first || last > maxCPU {
			return nil, fmt.Errorf("%.80q is not a list of CPUs", list)
		}
		for n := first; n <= last; n++ {
			seen[int(n)] = true
		}
	}
	cpus := make([]int, 0, len(seen))
	for n := range seen {
		cpus = append(cpus, n)
	}
	slices.Sort(cpus)
	return cpus, nil
}

// FormatCPUs returns sorted numbers as a list in the form of cpuset(7).
func FormatCPUs(cpus []int) string {
	var b strings.Builder
	for i := 0; i < len(cpus); {
		end := i
		for end+1 < len(cpus) && cpus[end+1] == cpus[end]+1 {
			end++
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(cpus[i]))
		if end > i {
			fmt.Fprintf(&b, "-%d", cpus[end])
		}
		i = end + 1
	}
	return b.String()
}
