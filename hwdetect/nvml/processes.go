//go:build linux && cgo && nvml

package nvml

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/kirizan/kitt-agent/hwdetect"
)

// maxProcesses bounds the processes of one GPU.
const maxProcesses = 4096

var errNoProcesses = errors.New("nvml: the GPUs list no processes")

// processes lists the processes on all GPUs. A GPU that cannot list its own is left out;
// it is an error if none can.
func (s *session) processes() ([]hwdetect.GPUProcess, error) {
	if err := s.begin(); err != nil {
		return nil, err
	}
	all, answered := []hwdetect.GPUProcess{}, false
	for _, d := range s.devices {
		if d.fault != nvml.SUCCESS {
			continue
		}
		list, ok := d.processes()
		answered = answered || ok
		all = append(all, list...)
	}
	if !answered {
		return nil, errNoProcesses
	}
	return all, nil
}

// processes lists the processes on d, and reports whether it can.
func (d device) processes() (list []hwdetect.GPUProcess, ok bool) {
	seen := map[uint32]int{} // a process may be in several lists
	for _, l := range []struct {
		kind, symbol string
		list         func() ([]nvml.ProcessInfo, nvml.Return)
	}{
		{"compute", "nvmlDeviceGetComputeRunningProcesses", d.GetComputeRunningProcesses},
		{"mps", "nvmlDeviceGetMPSComputeRunningProcesses", d.GetMPSComputeRunningProcesses},
		{"graphics", "nvmlDeviceGetGraphicsRunningProcesses", d.GetGraphicsRunningProcesses},
	} {
		found, ret := try(d.s, l.symbol, l.list)
		if ret != nvml.SUCCESS {
			continue
		}
		ok = true
		for _, p := range found[:min(len(found), maxProcesses)] {
			if _, known := seen[p.Pid]; known {
				continue
			}
			seen[p.Pid] = len(list)
			process := hwdetect.GPUProcess{GPU: d.index, PID: int(p.Pid), Kind: l.kind}
			if p.UsedGpuMemory != math.MaxUint64 { // NVML_VALUE_NOT_AVAILABLE
				process.MemoryBytes = new(int64(min(p.UsedGpuMemory, math.MaxInt64)))
			}
			list = append(list, process)
		}
	}
	d.addUtilization(list, seen)
	return list, ok
}

// addUtilization adds how busy each process was since the last call.
func (d device) addUtilization(list []hwdetect.GPUProcess, index map[uint32]int) {
	last, known := d.s.seenUtilization[d.uuid]
	if !known { // the driver keeps samples of many seconds
		last = uint64(time.Now().Add(-time.Second).UnixMicro())
	}
	samples, ret := try(d.s, "nvmlDeviceGetProcessUtilization", func() ([]nvml.ProcessUtilizationSample, nvml.Return) {
		return d.GetProcessUtilization(last)
	})
	switch {
	case ret == nvml.ERROR_NOT_FOUND, ret == nvml.ERROR_INSUFFICIENT_SIZE && len(samples) == 0: // nobody was busy
	case ret != nvml.SUCCESS:
		return
	}
	for i := range list {
		list[i].SMPct = new(0.0)
	}
	for _, sample := range samples {
		last = max(last, sample.TimeStamp)
		// The driver keeps samples of processes that have ended, and in a container it
		// leaves out their ids.
		if i, ok := index[sample.Pid]; ok {
			list[i].SMPct = new(max(*list[i].SMPct, min(float64(sample.SmUtil), 100)))
		}
	}
	if d.s.seenUtilization == nil {
		d.s.seenUtilization = map[string]uint64{}
	}
	d.s.seenUtilization[d.uuid] = last
	slices.SortFunc(list, func(a, b hwdetect.GPUProcess) int { return cmp.Compare(a.PID, b.PID) })
}
