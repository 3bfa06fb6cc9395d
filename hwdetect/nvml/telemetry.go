//go:build linux && cgo && nvml

package nvml

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/kirizan/kitt-agent/hwdetect"
)

// telemetry reads the GPUs.
func (s *session) telemetry() (hwdetect.Telemetry, error) {
	t := hwdetect.Telemetry{Time: time.Now()}
	if err := s.begin(); err != nil {
		_, fault := errors.AsType[*faultError](err)
		if !fault && len(s.known) == 0 {
			return hwdetect.Telemetry{}, err
		}
		t.Fault = strings.TrimPrefix(err.Error(), "nvml: ")
		return t, nil
	}
	s.collectXIDs()
	var faults []string
	for _, d := range s.devices {
		r, ret := s.read(d)
		if isFault(ret) {
			faults = append(faults, fmt.Sprintf("%s: %s", d, explain(ret)))
		}
		t.GPUs = append(t.GPUs, r)
	}
	for _, k := range s.known {
		present := slices.ContainsFunc(s.devices, func(d device) bool {
			return d.uuid == k.uuid || d.fault != nvml.SUCCESS && d.index == k.index
		})
		if !present {
			faults = append(faults, k.String()+" has disappeared; restart the machine")
		}
	}
	if t.Fault = strings.Join(faults, "; "); t.Fault != "" {
		s.end() // only a new session finds a GPU that comes back
	}
	return t, nil
}

// read reads one GPU. The second result is the first answer that reports a fault,
// or SUCCESS.
func (s *session) read(d device) (hwdetect.GPUTelemetry, nvml.Return) {
	r := hwdetect.GPUTelemetry{Index: d.index}
	if xid, ok := s.xids[d.index]; ok {
		r.LastXID = &xid
	}
	if d.fault != nvml.SUCCESS {
		return r, d.fault
	}
	fault := nvml.Return(nvml.SUCCESS)
	ok := func(ret nvml.Return) bool {
		if isFault(ret) && fault == nvml.SUCCESS {
			fault = ret
		}
		return ret == nvml.SUCCESS
	}
	if v, ret := try(s, "nvmlDeviceGetUtilizationRates", d.GetUtilizationRates); ok(ret) {
		r.UtilizationPct = new(min(float64(v.Gpu), 100))
	}
	if used, ret := d.memoryUsed(); ok(ret) {
		r.MemoryUsedBytes = new(used)
	}
	if celsius, ret := d.temperature(); ok(ret) {
		r.TemperatureC = new(celsius)
	}
	if mw, ret := try(s, "nvmlDeviceGetPowerUsage", d.GetPowerUsage); ok(ret) {
		r.PowerW = new(float64(mw) / 1000)
	}
	if bits, ret := d.clocksReasons(); ok(ret) {
		r.ThrottleReasons = hwdetect.ThrottleReasons(bits)
	}
	d.readClocks(&r)
	ecc, ret := try(s, "nvmlDeviceGetTotalEccErrors", func() (uint64, nvml.Return) {
		return d.GetTotalEccErrors(nvml.MEMORY_ERROR_TYPE_UNCORRECTED, nvml.VOLATILE_ECC)
	})
	if ok(ret) {
		r.ECCUncorrected = new(int64(min(ecc, math.MaxInt64)))
	}
	return r, fault
}

// readClocks reads what only a chart or a verdict shows. A GPU that doesn't answer has
// said so to an earlier question.
func (d device) readClocks(r *hwdetect.GPUTelemetry) {
	for _, clock := range []struct {
		kind nvml.ClockType
		mhz  **int
	}{{nvml.CLOCK_SM, &r.SMClockMHz}, {nvml.CLOCK_MEM, &r.MemoryClockMHz}} {
		if mhz, ret := try(d.s, "nvmlDeviceGetClockInfo", func() (uint32, nvml.Return) { return d.GetClockInfo(clock.kind) }); ret == nvml.SUCCESS {
			*clock.mhz = new(int(mhz))
		}
	}
	state, ret := try(d.s, "nvmlDeviceGetPerformanceState", d.GetPerformanceState)
	if ret == nvml.SUCCESS && state <= nvml.PSTATE_15 {
		r.PerformanceState = new(int(state))
	}
	if celsius, ok := d.fields(nvml.FI_DEV_MEMORY_TEMP)[nvml.FI_DEV_MEMORY_TEMP]; ok && celsius > 0 && celsius < 1000 {
		r.MemoryTemperatureC = new(float64(celsius))
	}
	if gen, ret := try(d.s, "nvmlDeviceGetCurrPcieLinkGeneration", d.GetCurrPcieLinkGeneration); ret == nvml.SUCCESS && gen > 0 {
		r.PCIeGen = new(gen)
	}
	if width, ret := try(d.s, "nvmlDeviceGetCurrPcieLinkWidth", d.GetCurrPcieLinkWidth); ret == nvml.SUCCESS && width > 0 {
		r.PCIeWidth = new(width)
	}
}

// temperature returns the GPU's temperature in °C. CUDA 13 deprecates the older
// of the two functions.
func (d device) temperature() (float64, nvml.Return) {
	v, ret := try(d.s, "nvmlDeviceGetTemperature", func() (uint32, nvml.Return) { return d.GetTemperature(nvml.TEMPERATURE_GPU) })
	if ret != nvml.ERROR_FUNCTION_NOT_FOUND {
		return float64(v), ret
	}
	newer, ret := try(d.s, "nvmlDeviceGetTemperatureV", func() (nvml.Temperature, nvml.Return) { return d.GetTemperatureV().V1() })
	return float64(newer.Temperature), ret
}

// clocksReasons returns the reasons for throttling, as bits. The function has an
// older name, which CUDA 13 deprecates.
func (d device) clocksReasons() (uint64, nvml.Return) {
	bits, ret := try(d.s, "nvmlDeviceGetCurrentClocksEventReasons", d.GetCurrentClocksEventReasons)
	if ret == nvml.ERROR_FUNCTION_NOT_FOUND {
		return try(d.s, "nvmlDeviceGetCurrentClocksThrottleReasons", d.GetCurrentClocksThrottleReasons)
	}
	return bits, ret
}

// memoryUsed returns the memory in use on d. For unified memory it is the sum over
// the processes that use the GPU.
func (d device) memoryUsed() (int64, nvml.Return) {
	memory, ret := d.memory()
	if ret == nvml.SUCCESS {
		return int64(memory.Used), ret
	}
	if !d.unified(ret) {
		return 0, ret
	}
	perProcess := make(map[uint32]uint64) // a process may be in both lists
	var answered bool
	for symbol, list := range map[string]func() ([]nvml.ProcessInfo, nvml.Return){
		"nvmlDeviceGetComputeRunningProcesses":  d.GetComputeRunningProcesses,
		"nvmlDeviceGetGraphicsRunningProcesses": d.GetGraphicsRunningProcesses,
	} {
		processes, listRet := try(d.s, symbol, list)
		if listRet != nvml.SUCCESS {
			if isFault(listRet) {
				ret = listRet
			}
			continue
		}
		answered = true
		for _, p := range processes {
			if p.UsedGpuMemory != math.MaxUint64 { // NVML_VALUE_NOT_AVAILABLE
				perProcess[p.Pid] = max(perProcess[p.Pid], p.UsedGpuMemory)
			}
		}
	}
	if !answered {
		return 0, ret
	}
	var sum uint64
	for _, used := range perProcess {
		sum += used
	}
	return int64(sum), nvml.SUCCESS
}
