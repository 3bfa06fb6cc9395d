package gpusets

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/runner"
)

// A Device is what a job can get: a GPU, or a MIG instance of one.
type Device struct {
	UUID    string
	GPU     hwdetect.GPU // itself, or the one that the instance is a part of
	Profile string       // of the MIG instance; empty for a whole GPU
	Fault   string       // why no job gets it; empty if jobs do
}

// Devices returns the devices of a machine, in the order of their GPUs. A GPU in MIG mode
// is none, but its instances are.
func Devices(m *hwdetect.Machine) (devices []Device) {
	if m == nil {
		return nil
	}
	for _, g := range m.GPUs {
		if g.MIG == nil || !g.MIG.Enabled {
			d := Device{UUID: g.UUID, GPU: g, Fault: g.Fault}
			if d.UUID == "" {
				d.Fault = cmp.Or(d.Fault, "its UUID is not known")
			}
			devices = append(devices, d)
			continue
		}
		for _, instance := range g.MIG.Instances {
			d := Device{UUID: instance.UUID, GPU: g, Profile: instance.Profile, Fault: g.Fault}
			if d.UUID == "" {
				d.Fault = cmp.Or(d.Fault, "the MIG instance has no compute instance")
			}
			devices = append(devices, d)
		}
	}
	return devices
}

// Find returns the device by that name, a UUID or the index of a whole GPU.
func Find(devices []Device, name string) (Device, bool) {
	for _, d := range devices {
		if d.UUID == name || d.Profile == "" && strconv.Itoa(d.GPU.Index) == name {
			return d, true
		}
	}
	return Device{}, false
}

// closeness returns how close two devices are; see [hwdetect.GPU.Closeness]. Instances of
// one GPU are closest.
func closeness(a, b Device) int {
	if a.GPU.Index == b.GPU.Index {
		return 7
	}
	return a.GPU.Closeness(b.GPU)
}

// A Placement is what a set of GPUs brings with it.
type Placement struct {
	Files int            // of the GPUs in /dev that a run with the set sees
	Host  runner.HostSet // the CPUs and the memory that are close to it
}

// Place returns what the GPUs of a job, as [runner.Job] names them, bring with them on m.
// A job with every GPU gets the whole machine.
func Place(m *hwdetect.Machine, gpus []string) (p Placement) {
	if m == nil || len(gpus) == 0 {
		return p
	}
	if slices.Equal(gpus, []string{runner.AllGPUs}) {
		for _, g := range m.GPUs {
			if g.Fault == "" {
				p.Files++
			}
		}
		return p
	}
	devices := Devices(m)
	var cpus, nodes []int
	files, local := map[int]bool{}, true
	for _, name := range gpus {
		d, found := Find(devices, name)
		if !found {
			return Placement{Files: len(gpus)} // it has gone meanwhile
		}
		files[d.GPU.Index] = true
		list, err := hwdetect.ParseCPUs(d.GPU.CPUs)
		local = local && err == nil && len(list) > 0 && d.GPU.NUMANode != nil
		if local {
			cpus, nodes = append(cpus, list...), append(nodes, *d.GPU.NUMANode)
		}
	}
	p.Files = len(files)
	p.Host.MemoryShare = float64(len(gpus)) / float64(max(len(devices), 1))
	if local {
		p.Host.CPUs, p.Host.MemoryNodes = format(cpus), format(nodes)
	}
	return p
}

// format returns numbers as a list in the form of cpuset(7).
func format(numbers []int) string {
	slices.Sort(numbers)
	return hwdetect.FormatCPUs(slices.Compact(numbers))
}

// Overlap says which parts of m two jobs use both: GPUs, and the CPUs next to them.
// Without any the text is empty. The GPUs are as [runner.Job] names them.
func Overlap(m *hwdetect.Machine, a, b []string) string {
	all := func(gpus []string) bool { return slices.Contains(gpus, runner.AllGPUs) }
	if len(a) == 0 || len(b) == 0 {
		return ""
	}
	if all(a) || all(b) {
		return "the same GPUs"
	}
	devices := Devices(m)
	for _, name := range a {
		x, foundX := Find(devices, name)
		for _, other := range b {
			y, foundY := Find(devices, other)
			switch {
			case name == other:
				return "the same GPUs"
			case foundX && foundY && x.GPU.Index == y.GPU.Index:
				return fmt.Sprintf("GPU %d, in other MIG instances", x.GPU.Index)
			}
		}
	}
	mine, theirs := Place(m, a).Host, Place(m, b).Host
	ofMine, err1 := hwdetect.ParseCPUs(mine.CPUs)
	ofTheirs, err2 := hwdetect.ParseCPUs(theirs.CPUs)
	if err1 != nil || err2 != nil || mine.CPUs == "" || theirs.CPUs == "" {
		return "all CPUs and the memory"
	}
	shared := slices.DeleteFunc(ofMine, func(cpu int) bool { return !slices.Contains(ofTheirs, cpu) })
	if len(shared) == 0 {
		return ""
	}
	return fmt.Sprintf("CPUs %s and memory node %s", hwdetect.FormatCPUs(shared), mine.MemoryNodes)
}
