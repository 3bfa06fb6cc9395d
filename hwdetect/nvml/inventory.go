//go:build linux && cgo && nvml

package nvml

import (
	"fmt"
	"math"
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/kirizan/kitt-agent/hwdetect"
)

// inventory describes the GPUs.
func (s *session) inventory() (hwdetect.Inventory, error) {
	if err := s.begin(); err != nil {
		return hwdetect.Inventory{}, err
	}
	var inv hwdetect.Inventory
	inv.DriverVersion, _ = try(s, "nvmlSystemGetDriverVersion", s.lib.SystemGetDriverVersion)
	if n, ret := try(s, "nvmlSystemGetCudaDriverVersion", s.lib.SystemGetCudaDriverVersion); ret == nvml.SUCCESS {
		inv.CUDADriver = hwdetect.CUDAVersion(n)
	}
	for _, d := range s.devices {
		g := hwdetect.GPU{Index: d.index, UUID: d.uuid, PCIBus: d.bus}
		if d.fault != nvml.SUCCESS {
			inv.Gaps = append(inv.Gaps, hwdetect.Gap{What: "gpus", Reason: fmt.Sprintf("nvml: %s: %s", d, explain(d.fault))})
			for _, k := range s.known {
				if k.index == d.index {
					g.UUID, g.PCIBus = k.uuid, k.bus
				}
			}
			g.Fault = explain(d.fault)
			inv.GPUs = append(inv.GPUs, g) // another source may know its name
			continue
		}
		inv.Gaps = append(inv.Gaps, s.describe(&g, d)...)
		inv.GPUs = append(inv.GPUs, g)
	}
	for i, d := range s.devices {
		if d.fault == nvml.SUCCESS {
			inv.GPUs[i].NVLinkPeers, inv.GPUs[i].Links = s.peers(d), s.links(d)
		}
	}
	return inv, nil
}

// describe sets the fields of g that d can answer, and returns gaps for the rest.
func (s *session) describe(g *hwdetect.GPU, d device) (gaps []hwdetect.Gap) {
	gap := func(what string, ret nvml.Return) {
		if isFault(ret) {
			g.Fault = explain(ret)
		}
		gaps = append(gaps, hwdetect.Gap{What: what, Reason: fmt.Sprintf("nvml: %s: %s", d, explain(ret))})
	}
	var ret nvml.Return
	if g.Model, ret = try(s, "nvmlDeviceGetName", d.GetName); ret != nvml.SUCCESS {
		gap("model", ret)
	}
	major, minor, ret := d.capability()
	if ret == nvml.SUCCESS {
		g.ComputeCapability = fmt.Sprintf("%d.%d", major, minor)
	} else {
		gap("compute_capability", ret)
	}
	if mw, ret := try(s, "nvmlDeviceGetEnforcedPowerLimit", d.GetEnforcedPowerLimit); ret == nvml.SUCCESS {
		g.PowerLimitW = float64(mw) / 1000
	} else if mw, ret := try(s, "nvmlDeviceGetPowerManagementLimit", d.GetPowerManagementLimit); ret == nvml.SUCCESS {
		g.PowerLimitW = float64(mw) / 1000
	}
	g.MIG = s.mig(d)
	memory, ret := d.memory()
	switch {
	case ret == nvml.SUCCESS:
		g.MemoryBytes = int64(memory.Total)
	case d.unified(ret):
		g.Unified = true
	default:
		gap("memory_bytes", ret)
	}
	return gaps
}

// memory returns the GPU's own memory. A size of 0 counts as "not supported".
func (d device) memory() (nvml.Memory, nvml.Return) {
	memory, ret := try(d.s, "nvmlDeviceGetMemoryInfo", d.GetMemoryInfo)
	if ret == nvml.SUCCESS && memory.Total == 0 {
		ret = nvml.ERROR_NOT_SUPPORTED
	}
	return memory, ret
}

// capability returns the compute capability.
func (d device) capability() (major, minor int, ret nvml.Return) {
	both, ret := try(d.s, "nvmlDeviceGetCudaComputeCapability", func() ([2]int, nvml.Return) {
		major, minor, ret := d.GetCudaComputeCapability()
		return [2]int{major, minor}, ret
	})
	return both[0], both[1], ret
}

// unified reports whether d shares the machine's RAM, given the result of memory.
func (d device) unified(memory nvml.Return) bool {
	if memory != nvml.ERROR_NOT_SUPPORTED || d.partitioned() {
		return false
	}
	name, _ := try(d.s, "nvmlDeviceGetName", d.GetName)
	var capability string
	if major, minor, ret := d.capability(); ret == nvml.SUCCESS {
		capability = fmt.Sprintf("%d.%d", major, minor)
	}
	return hwdetect.IntegratedGPU(name, capability)
}

// partitioned reports whether MIG is on.
func (d device) partitioned() bool {
	mode, ret := try(d.s, "nvmlDeviceGetMigMode", d.migMode)
	return ret == nvml.SUCCESS && mode == nvml.DEVICE_MIG_ENABLE
}

// migMode returns the current MIG mode.
func (d device) migMode() (int, nvml.Return) {
	current, _, ret := d.GetMigMode()
	return current, ret
}

// mig describes d's partitioning, or returns nil if it cannot be partitioned.
func (s *session) mig(d device) *hwdetect.MIG {
	mode, ret := try(d.s, "nvmlDeviceGetMigMode", d.migMode)
	if ret != nvml.SUCCESS {
		return nil
	}
	m := &hwdetect.MIG{Enabled: mode == nvml.DEVICE_MIG_ENABLE}
	if !m.Enabled {
		return m
	}
	n, _ := try(s, "nvmlDeviceGetMaxMigDeviceCount", d.GetMaxMigDeviceCount)
	for i := range n {
		slice, ret := try(s, "nvmlDeviceGetMigDeviceHandleByIndex", func() (nvml.Device, nvml.Return) { return d.GetMigDeviceHandleByIndex(i) })
		if ret != nvml.SUCCESS {
			continue // no slice at this index
		}
		instance := hwdetect.MIGInstance{}
		instance.UUID, _ = try(s, "nvmlDeviceGetUUID", slice.GetUUID)
		if memory, ret := try(s, "nvmlDeviceGetMemoryInfo", slice.GetMemoryInfo); ret == nvml.SUCCESS {
			instance.MemoryBytes = int64(memory.Total)
		}
		// "NVIDIA A100-SXM4-40GB MIG 1g.5gb"
		if name, ret := try(s, "nvmlDeviceGetName", slice.GetName); ret == nvml.SUCCESS {
			if _, profile, ok := strings.Cut(name, "MIG "); ok {
				instance.Profile = profile
			}
		}
		m.Instances = append(m.Instances, instance)
	}
	if len(m.Instances) == 0 {
		m.Instances = gpuInstances(d)
	}
	return m
}

// gpuInstances lists the GPU instances of d. They exist, but cannot be used until
// they have a compute instance. Only root may list them.
func gpuInstances(d device) []hwdetect.MIGInstance {
	var all []hwdetect.MIGInstance
	for id := range int(nvml.GPU_INSTANCE_PROFILE_COUNT) {
		profile, ret := try(d.s, "nvmlDeviceGetGpuInstanceProfileInfo", func() (nvml.GpuInstanceProfileInfo, nvml.Return) { return d.GetGpuInstanceProfileInfo(id) })
		if ret != nvml.SUCCESS {
			continue
		}
		found, ret := try(d.s, "nvmlDeviceGetGpuInstances", func() ([]nvml.GpuInstance, nvml.Return) { return d.GetGpuInstances(&profile) })
		if ret != nvml.SUCCESS {
			continue
		}
		for range found {
			all = append(all, hwdetect.MIGInstance{
				Profile:     fmt.Sprintf("%dg.%dgb", profile.SliceCount, int(math.Round(float64(profile.MemorySizeMB)/1024))),
				MemoryBytes: int64(profile.MemorySizeMB) << 20,
			})
		}
	}
	return all
}

// peers returns the GPUs that d reaches over NVLink, directly or through a switch.
func (s *session) peers(d device) []int {
	var peers []int
	for _, other := range s.devices {
		if other.index == d.index || other.fault != nvml.SUCCESS {
			continue
		}
		status, ret := try(s, "nvmlDeviceGetP2PStatus", func() (nvml.GpuP2PStatus, nvml.Return) {
			return d.GetP2PStatus(other.Device, nvml.P2P_CAPS_INDEX_NVLINK)
		})
		if ret == nvml.SUCCESS && status == nvml.P2P_STATUS_OK {
			peers = append(peers, other.index)
		}
	}
	return peers
}

// links returns the paths from d to the other GPUs over PCIe.
func (s *session) links(d device) (links []hwdetect.GPULink) {
	for _, other := range s.devices {
		if other.index == d.index || other.fault != nvml.SUCCESS {
			continue
		}
		level, ret := try(s, "nvmlDeviceGetTopologyCommonAncestor", func() (nvml.GpuTopologyLevel, nvml.Return) {
			return d.GetTopologyCommonAncestor(other.Device)
		})
		if path := pathOf(level); ret == nvml.SUCCESS && path != "" {
			links = append(links, hwdetect.GPULink{Peer: other.index, Path: path})
		}
	}
	return links
}

// pathOf returns a level of NVML's topology as a path; empty for an unknown one.
func pathOf(level nvml.GpuTopologyLevel) hwdetect.Path {
	switch level {
	case nvml.TOPOLOGY_INTERNAL:
		return hwdetect.PathBoard
	case nvml.TOPOLOGY_SINGLE:
		return hwdetect.PathSwitch
	case nvml.TOPOLOGY_MULTIPLE:
		return hwdetect.PathSwitches
	case nvml.TOPOLOGY_HOSTBRIDGE:
		return hwdetect.PathBridge
	case nvml.TOPOLOGY_NODE:
		return hwdetect.PathNode
	case nvml.TOPOLOGY_SYSTEM:
		return hwdetect.PathSystem
	}
	return ""
}
