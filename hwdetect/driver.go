package hwdetect

import (
	"context"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
)

// driverFiles is the last source: what the NVIDIA kernel module shows under
// /proc/driver/nvidia and /sys/module, and the devices on the PCI bus. It finds
// no memory sizes, but needs neither library nor tool.
type driverFiles struct{ root fs.FS }

// Name returns "driver files".
func (d driverFiles) Name() string { return "driver files" }

// Inventory reads the files.
func (d driverFiles) Inventory(context.Context) (Inventory, error) {
	inv := Inventory{DriverVersion: d.version()}
	addresses := list(d.root, "proc/driver/nvidia/gpus")
	for i, address := range addresses {
		text, _ := readFile(d.root, "proc/driver/nvidia/gpus/"+address+"/information")
		g := parseGPUInformation(text)
		g.Index = i
		if g.PCIBus == "" {
			g.PCIBus = BusAddress(address)
		}
		inv.GPUs = append(inv.GPUs, g)
	}
	var unused []string
	for _, address := range d.onBus() {
		if !slices.ContainsFunc(inv.GPUs, func(g GPU) bool { return g.PCIBus == address }) {
			unused = append(unused, address)
		}
	}
	if len(unused) > 0 {
		why := "no driver is loaded for it"
		if inv.DriverVersion != "" {
			why = "the driver does not use it"
		}
		inv.Gaps = append(inv.Gaps, Gap{What: "gpus", Reason: fmt.Sprintf("an NVIDIA GPU is on the PCI bus at %s, but %s", strings.Join(unused, ", "), why)})
	}
	if len(inv.GPUs) == 0 && inv.DriverVersion == "" && len(unused) == 0 {
		return inv, ErrAbsent
	}
	return inv, nil
}

// onBus returns the addresses of NVIDIA's display and 3D controllers (PCI
// classes 0300 and 0302, vendor 10de).
func (d driverFiles) onBus() []string {
	const dir = "sys/bus/pci/devices"
	var addresses []string
	for _, address := range list(d.root, dir) {
		if readLine(d.root, dir+"/"+address+"/vendor") != "0x10de" {
			continue
		}
		class := readLine(d.root, dir+"/"+address+"/class")
		if strings.HasPrefix(class, "0x0300") || strings.HasPrefix(class, "0x0302") {
			addresses = append(addresses, BusAddress(address))
		}
	}
	return addresses
}

var versionWords = regexp.MustCompile(`Kernel Module (?:for \S+ )?\s*(\d+\.\d+(?:\.\d+)?)`)

// version returns the version of the loaded driver.
func (d driverFiles) version() string {
	if v := readLine(d.root, "sys/module/nvidia/version"); v != "" {
		return v
	}
	if m := versionWords.FindStringSubmatch(readLine(d.root, "proc/driver/nvidia/version")); m != nil {
		return m[1]
	}
	return ""
}

// parseGPUInformation reads /proc/driver/nvidia/gpus/*/information.
func parseGPUInformation(text string) GPU {
	var g GPU
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "Model":
			if value != "Unknown" {
				g.Model = value
			}
		case "GPU UUID":
			if !strings.Contains(value, "?") { // a placeholder until the GPU is first used
				g.UUID = value
			}
		case "Bus Location":
			g.PCIBus = BusAddress(value)
		}
	}
	return g
}
