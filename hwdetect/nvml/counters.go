//go:build linux && cgo && nvml

package nvml

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/kirizan/kitt-agent/hwdetect"
)

// throttleFields are the counters of the time with reduced clocks, in nanoseconds, and
// their older names. nvml.h gives the unit of both.
var throttleFields = []struct {
	id    uint32
	old   nvml.PerfPolicyType // -1 if there is none
	field func(*hwdetect.GPUCounters) **time.Duration
}{
	{nvml.FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP, nvml.PERF_POLICY_POWER, func(c *hwdetect.GPUCounters) **time.Duration { return &c.PowerCap }},
	{nvml.FI_DEV_CLOCKS_EVENT_REASON_SYNC_BOOST, nvml.PERF_POLICY_SYNC_BOOST, func(c *hwdetect.GPUCounters) **time.Duration { return &c.SyncBoost }},
	{nvml.FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN, nvml.PERF_POLICY_THERMAL, func(c *hwdetect.GPUCounters) **time.Duration { return &c.SWThermal }},
	{nvml.FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN, -1, func(c *hwdetect.GPUCounters) **time.Duration { return &c.HWThermal }},
	{nvml.FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN, -1, func(c *hwdetect.GPUCounters) **time.Duration { return &c.HWPowerBrake }},
}

// nvlinkErrorFields are the totals of all links of a GPU.
var nvlinkErrorFields = []uint32{
	nvml.FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL, nvml.FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL,
	nvml.FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL, nvml.FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL,
}

// counters reads the counters and settings of the GPUs.
func (s *session) counters() (hwdetect.Counters, error) {
	if err := s.begin(); err != nil {
		return hwdetect.Counters{}, err
	}
	c := hwdetect.Counters{Time: time.Now()}
	for _, d := range s.devices {
		g := hwdetect.GPUCounters{Index: d.index, UUID: d.uuid, PCIBus: d.bus}
		if d.fault == nvml.SUCCESS {
			d.readThrottled(&g)
			d.readSettings(&g)
			d.readHealth(&g)
		}
		c.GPUs = append(c.GPUs, g)
	}
	return c, nil
}

// fields returns the values of several fields that the GPU supports, in one call.
func (d device) fields(ids ...uint32) map[uint32]uint64 {
	values := make([]nvml.FieldValue, len(ids))
	for i, id := range ids {
		values[i].FieldId = id
	}
	_, ret := try(d.s, "nvmlDeviceGetFieldValues", func() (struct{}, nvml.Return) { return struct{}{}, d.GetFieldValues(values) })
	if ret != nvml.SUCCESS {
		return nil
	}
	found := map[uint32]uint64{}
	for _, v := range values {
		if n, ok := fieldValue(v); ok {
			found[v.FieldId] = n
		}
	}
	return found
}

// fieldValue returns the number of a field, if the GPU has one that is not negative.
func fieldValue(v nvml.FieldValue) (uint64, bool) {
	if nvml.Return(v.NvmlReturn) != nvml.SUCCESS {
		return 0, false
	}
	raw := binary.NativeEndian.Uint64(v.Value[:])
	switch nvml.ValueType(v.ValueType) {
	case nvml.VALUE_TYPE_UNSIGNED_INT:
		return uint64(binary.NativeEndian.Uint32(v.Value[:])), true
	case nvml.VALUE_TYPE_UNSIGNED_SHORT:
		return uint64(binary.NativeEndian.Uint16(v.Value[:])), true
	case nvml.VALUE_TYPE_UNSIGNED_LONG, nvml.VALUE_TYPE_UNSIGNED_LONG_LONG:
		return raw, true
	case nvml.VALUE_TYPE_SIGNED_LONG_LONG:
		return raw, raw <= math.MaxInt64
	case nvml.VALUE_TYPE_SIGNED_INT:
		n := int32(binary.NativeEndian.Uint32(v.Value[:]))
		return uint64(max(n, 0)), n >= 0
	}
	return 0, false
}

// readThrottled reads how long clocks were reduced.
func (d device) readThrottled(g *hwdetect.GPUCounters) {
	var ids []uint32
	for _, f := range throttleFields {
		ids = append(ids, f.id)
	}
	found := d.fields(ids...)
	for _, f := range throttleFields {
		ns, ok := found[f.id]
		if !ok && f.old >= 0 {
			v, ret := try(d.s, "nvmlDeviceGetViolationStatus", func() (nvml.ViolationTime, nvml.Return) { return d.GetViolationStatus(f.old) })
			ns, ok = v.ViolationTime, ret == nvml.SUCCESS
		}
		if ok && ns <= math.MaxInt64 {
			*f.field(g) = new(time.Duration(ns))
		}
	}
}

// readSettings reads limits and modes.
func (d device) readSettings(g *hwdetect.GPUCounters) {
	g.VBIOS, _ = try(d.s, "nvmlDeviceGetVbiosVersion", d.GetVbiosVersion)
	if mw, ret := try(d.s, "nvmlDeviceGetEnforcedPowerLimit", d.GetEnforcedPowerLimit); ret == nvml.SUCCESS {
		g.PowerLimitW = new(float64(mw) / 1000)
	}
	if mw, ret := try(d.s, "nvmlDeviceGetPowerManagementDefaultLimit", d.GetPowerManagementDefaultLimit); ret == nvml.SUCCESS {
		g.DefaultPowerLimitW = new(float64(mw) / 1000)
	}
	if mode, ret := try(d.s, "nvmlDeviceGetPersistenceMode", d.GetPersistenceMode); ret == nvml.SUCCESS {
		g.Persistence = new(mode == nvml.FEATURE_ENABLED)
	}
	if mode, ret := try(d.s, "nvmlDeviceGetComputeMode", d.GetComputeMode); ret == nvml.SUCCESS {
		g.ComputeMode = computeModeName(mode)
	}
	if mode, ret := try(d.s, "nvmlDeviceGetMigMode", d.migMode); ret == nvml.SUCCESS {
		g.MIG = new(mode == nvml.DEVICE_MIG_ENABLE)
	}
	mode, ret := try(d.s, "nvmlDeviceGetEccMode", func() (nvml.EnableState, nvml.Return) {
		current, _, ret := d.GetEccMode()
		return current, ret
	})
	if ret == nvml.SUCCESS {
		g.ECC = new(mode == nvml.FEATURE_ENABLED)
	}
	if mhz, ret := try(d.s, "nvmlDeviceGetMaxClockInfo", func() (uint32, nvml.Return) { return d.GetMaxClockInfo(nvml.CLOCK_SM) }); ret == nvml.SUCCESS {
		g.MaxSMClockMHz = new(int(mhz))
	}
	if gen, ret := try(d.s, "nvmlDeviceGetMaxPcieLinkGeneration", d.GetMaxPcieLinkGeneration); ret == nvml.SUCCESS {
		g.MaxPCIeGen = new(gen)
	}
	if width, ret := try(d.s, "nvmlDeviceGetMaxPcieLinkWidth", d.GetMaxPcieLinkWidth); ret == nvml.SUCCESS {
		g.MaxPCIeWidth = new(width)
	}
}

// computeModeName returns nvidia-smi's name of a compute mode.
func computeModeName(mode nvml.ComputeMode) string {
	switch mode {
	case nvml.COMPUTEMODE_DEFAULT:
		return "Default"
	case nvml.COMPUTEMODE_EXCLUSIVE_THREAD:
		return "Exclusive_Thread"
	case nvml.COMPUTEMODE_PROHIBITED:
		return "Prohibited"
	case nvml.COMPUTEMODE_EXCLUSIVE_PROCESS:
		return "Exclusive_Process"
	}
	return ""
}

// readHealth reads the energy and the counters of errors.
func (d device) readHealth(g *hwdetect.GPUCounters) {
	if mj, ret := try(d.s, "nvmlDeviceGetTotalEnergyConsumption", d.GetTotalEnergyConsumption); ret == nvml.SUCCESS {
		g.EnergyJ = new(float64(mj) / 1000)
	}
	g.ECCUncorrected = d.eccErrors(nvml.MEMORY_ERROR_TYPE_UNCORRECTED)
	g.ECCCorrected = d.eccErrors(nvml.MEMORY_ERROR_TYPE_CORRECTED)
	rows, ret := try(d.s, "nvmlDeviceGetRemappedRows", func() ([2]bool, nvml.Return) {
		_, _, pending, failed, ret := d.GetRemappedRows()
		return [2]bool{pending, failed}, ret
	})
	if ret == nvml.SUCCESS {
		g.RemapPending, g.RemapFailed = new(rows[0]), new(rows[1])
	} else if pending, ret := try(d.s, "nvmlDeviceGetRetiredPagesPendingStatus", d.GetRetiredPagesPendingStatus); ret == nvml.SUCCESS {
		g.RemapPending = new(pending == nvml.FEATURE_ENABLED)
	}
	if n, ret := try(d.s, "nvmlDeviceGetPcieReplayCounter", d.GetPcieReplayCounter); ret == nvml.SUCCESS && n >= 0 {
		g.PCIeReplays = new(int64(n))
	}
	for _, n := range d.fields(nvlinkErrorFields...) {
		if g.NVLinkErrors == nil {
			g.NVLinkErrors = new(int64)
		}
		*g.NVLinkErrors += int64(min(n, math.MaxInt64/uint64(len(nvlinkErrorFields))))
	}
}

// eccErrors returns the memory errors of a kind since the driver was loaded.
func (d device) eccErrors(kind nvml.MemoryErrorType) *int64 {
	n, ret := try(d.s, "nvmlDeviceGetTotalEccErrors", func() (uint64, nvml.Return) { return d.GetTotalEccErrors(kind, nvml.VOLATILE_ECC) })
	if ret != nvml.SUCCESS {
		return nil
	}
	return new(int64(min(n, math.MaxInt64)))
}
