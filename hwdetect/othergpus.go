package hwdetect

import (
	"cmp"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// An OtherGPU is a GPU of another vendor than NVIDIA. It is described and no more:
// benchmarks do not get it, and it has no telemetry.
type OtherGPU struct {
	Vendor      string `json:"vendor"` // AMD or Intel
	Model       string `json:"model"`  // by the driver or the machine's list of PCI IDs; else with the device's number
	PCIBus      string `json:"pci_bus"`
	Device      string `json:"device"`                 // PCI vendor and device, such as 1002:74a1
	Driver      string `json:"driver,omitempty"`       // the kernel driver that uses it; empty if none does
	MemoryBytes int64  `json:"memory_bytes,omitempty"` // its own memory, where the driver tells it
	NUMANode    *int   `json:"numa_node,omitempty"`
}

// otherVendors are the vendors of OtherGPUs by their PCI numbers.
var otherVendors = map[string]string{"0x1002": "AMD", "0x8086": "Intel"}

// gpuClasses are the PCI classes of GPUs: VGA, 3D and other display controllers, and
// processing accelerators, as which AMD's Instinct appear.
var gpuClasses = []string{"0x0300", "0x0302", "0x0380", "0x1200"}

// maxOther bounds how many are listed.
const maxOther = 64

// otherGPUs lists AMD's and Intel's GPUs on the PCI bus.
func otherGPUs(root fs.FS) (found []OtherGPU) {
	const devices = "sys/bus/pci/devices"
	var ids *pciIDs
	for _, address := range list(root, devices) {
		dir := devices + "/" + address + "/"
		vendor := readLine(root, dir+"vendor")
		name := otherVendors[vendor]
		class := readLine(root, dir+"class")
		if name == "" || len(class) < 6 || !strings.Contains(strings.Join(gpuClasses, " "), class[:6]) || len(found) == maxOther {
			continue
		}
		if vendor == "0x8086" && class[:6] == "0x1200" {
			continue // Intel's accelerators of this class are not GPUs
		}
		if ids == nil {
			ids = readPCIIDs(root)
		}
		v, d := strings.TrimPrefix(vendor, "0x"), strings.TrimPrefix(readLine(root, dir+"device"), "0x")
		g := OtherGPU{Vendor: name, PCIBus: BusAddress(address), Device: strings.TrimSuffix(v+":"+d, ":")}
		g.Model = cmp.Or(readLine(root, dir+"product_name"), ids.name(v, d), strings.TrimSpace(name+" GPU "+d))
		if node, err := strconv.Atoi(readLine(root, dir+"numa_node")); err == nil && node >= 0 {
			g.NUMANode = &node
		}
		g.MemoryBytes = number(readLine(root, dir+"mem_info_vram_total")) // amdgpu
		if link, err := fs.ReadLink(root, dir+"driver"); err == nil {
			g.Driver = path.Base(link)
		}
		found = append(found, g)
	}
	return found
}

// pciIDs is the text of a list of PCI IDs (pci.ids of the PCI ID Repository); empty
// where there is none.
type pciIDs struct{ text string }

func readPCIIDs(root fs.FS) *pciIDs {
	for _, name := range []string{"usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids"} {
		if text, err := readFile(root, name); err == nil {
			return &pciIDs{text}
		}
	}
	return &pciIDs{}
}

var hexID = regexp.MustCompile(`^[0-9a-f]{4}$`)

// name returns what the list calls a device, empty if it doesn't have it. Vendors are at
// the beginning of a line, their devices after one tab.
func (ids *pciIDs) name(vendor, device string) string {
	if !hexID.MatchString(vendor) || !hexID.MatchString(device) {
		return ""
	}
	ours := false
	for line := range strings.Lines(ids.text) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case line == "" || line[0] == '#':
		case line[0] != '\t':
			if ours {
				return ""
			}
			ours = strings.HasPrefix(line, vendor+"  ")
		case ours && strings.HasPrefix(line, "\t"+device+"  "):
			name := strings.TrimSpace(line[len(device)+1:])
			return strings.ToValidUTF8(name[:min(len(name), 200)], "")
		}
	}
	return ""
}
