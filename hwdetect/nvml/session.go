//go:build linux && cgo && nvml

package nvml

import (
	"fmt"
	"log/slog"
	"slices"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/kirizan/kitt-agent/hwdetect"
)

// A session is one initialisation of NVML and what must be remembered beyond it.
// It is not safe for concurrent use.
type session struct {
	libraries []nvml.Interface // tried in order
	log       *slog.Logger

	lib     nvml.Interface // the one that is initialised; nil if none is
	devices []device
	events  nvml.EventSet // of XIDs; nil where there is none

	symbols map[string]bool // which functions the loaded library has
	known   []device        // every GPU that was ever seen
	xids    map[int]int64   // the latest XID by index
}

// A device is one GPU.
type device struct {
	nvml.Device
	s     *session
	index int
	uuid  string
	bus   string
	fault nvml.Return // why there is no handle; SUCCESS if there is one
}

// String names the device for a person.
func (d device) String() string {
	name := fmt.Sprintf("GPU %d", d.index)
	if d.bus != "" {
		name += " at " + d.bus
	}
	return name
}

// begin initialises NVML unless that is done. A session in which a GPU gave no
// handle is begun anew, since only a new one would see that GPU return.
func (s *session) begin() error {
	if slices.ContainsFunc(s.devices, func(d device) bool { return d.fault != nvml.SUCCESS }) {
		s.end()
	}
	if s.lib != nil {
		return nil
	}
	ret := nvml.Return(nvml.ERROR_LIBRARY_NOT_FOUND)
	for _, lib := range s.libraries {
		if ret = lib.Init(); ret == nvml.SUCCESS {
			s.lib = lib
			break
		}
		if ret != nvml.ERROR_LIBRARY_NOT_FOUND {
			break
		}
	}
	if s.lib == nil {
		return initError(ret)
	}
	if err := s.enumerate(); err != nil {
		s.end()
		return err
	}
	s.log.Debug("nvml initialised", "gpus", len(s.devices))
	return nil
}

// initError says why there is no NVML.
func initError(ret nvml.Return) error {
	switch ret {
	case nvml.ERROR_LIBRARY_NOT_FOUND:
		return fmt.Errorf("nvml: libnvidia-ml.so.1 is not installed: %w", hwdetect.ErrAbsent)
	case nvml.ERROR_DRIVER_NOT_LOADED:
		return fmt.Errorf("nvml: the NVIDIA driver is not loaded: %w", hwdetect.ErrAbsent)
	case nvml.ERROR_NO_PERMISSION:
		return fmt.Errorf("nvml: no permission to open /dev/nvidiactl: %w", hwdetect.ErrAbsent)
	}
	return &faultError{"NVML cannot be used", ret}
}

// A faultError is an answer from NVML that means trouble.
type faultError struct {
	what string
	ret  nvml.Return
}

// Error returns a sentence for a person.
func (e *faultError) Error() string { return e.what + ": " + explain(e.ret) }

// explain puts an answer into words, with what helps where something does. (The
// words of nvml.Return itself come from a variable that loading a library
// changes.)
func explain(ret nvml.Return) string {
	switch ret {
	case nvml.ERROR_LIB_RM_VERSION_MISMATCH:
		return "driver and library versions differ; restart the machine, or reload the nvidia kernel module"
	case nvml.ERROR_GPU_IS_LOST:
		return "the GPU has fallen off the bus; restart the machine"
	case nvml.ERROR_RESET_REQUIRED:
		return "the GPU needs a reset (nvidia-smi --gpu-reset) or a restart of the machine"
	case nvml.ERROR_INSUFFICIENT_POWER:
		return "the GPU's power cables are not attached properly"
	case nvml.ERROR_IRQ_ISSUE:
		return "the kernel has trouble with the GPU's interrupts"
	case nvml.ERROR_CORRUPTED_INFOROM:
		return "the GPU's memory of its own settings (infoROM) is damaged"
	case nvml.ERROR_NOT_SUPPORTED:
		return "the GPU does not support the question"
	case nvml.ERROR_FUNCTION_NOT_FOUND:
		return "the library is too old for the question"
	case nvml.ERROR_NO_PERMISSION:
		return "only root may ask"
	case nvml.ERROR_TIMEOUT:
		return "the driver did not answer in time"
	case nvml.ERROR_UNKNOWN:
		return "the driver reports an unknown error; see dmesg"
	}
	return fmt.Sprintf("NVML error %d", int(ret))
}

// end shuts NVML down, so that the next begin starts afresh.
func (s *session) end() {
	if s.lib == nil {
		return
	}
	if s.events != nil {
		try(s, "nvmlEventSetFree", func() (struct{}, nvml.Return) { return struct{}{}, s.events.Free() })
	}
	s.lib.Shutdown()
	s.lib, s.devices, s.events, s.symbols = nil, nil, nil, nil
}

// enumerate gets a handle of each GPU.
func (s *session) enumerate() error {
	n, ret := s.lib.DeviceGetCount()
	if ret != nvml.SUCCESS {
		return &faultError{"the GPUs cannot be counted", ret}
	}
	s.devices = make([]device, n)
	for i := range n {
		d := &s.devices[i]
		d.s, d.index = s, i
		d.Device, d.fault = s.lib.DeviceGetHandleByIndex(i)
		if d.fault != nvml.SUCCESS {
			continue
		}
		d.uuid, _ = try(s, "nvmlDeviceGetUUID", d.GetUUID)
		if pci, ret := try(s, "nvmlDeviceGetPciInfo", d.GetPciInfo); ret == nvml.SUCCESS {
			d.bus = hwdetect.BusAddress(cString(pci.BusId[:]))
		}
		d.remember(s)
	}
	s.watchXIDs()
	return nil
}

func (d device) remember(s *session) {
	if d.uuid != "" && !slices.ContainsFunc(s.known, func(k device) bool { return k.uuid == d.uuid }) {
		s.known = append(s.known, d)
	}
}

// watchXIDs asks the driver to note critical errors, which readings then fetch.
func (s *session) watchXIDs() {
	set, ret := try(s, "nvmlEventSetCreate", s.lib.EventSetCreate)
	if ret != nvml.SUCCESS {
		return
	}
	s.events = set
	for _, d := range s.devices {
		if d.fault == nvml.SUCCESS {
			try(s, "nvmlDeviceRegisterEvents", func() (struct{}, nvml.Return) {
				return struct{}{}, d.RegisterEvents(nvml.EventTypeXidCriticalError, set)
			})
		}
	}
}

// collectXIDs fetches the critical errors that were noted since the last time.
func (s *session) collectXIDs() {
	if s.events == nil {
		return
	}
	for range 100 { // the driver keeps fewer
		e, ret := try(s, "nvmlEventSetWait", func() (nvml.EventData, nvml.Return) { return s.events.Wait(0) })
		if ret != nvml.SUCCESS {
			return
		}
		if e.EventType&nvml.EventTypeXidCriticalError == 0 || e.Device == nil {
			continue
		}
		uuid, _ := try(s, "nvmlDeviceGetUUID", e.Device.GetUUID)
		for _, d := range s.devices {
			if d.uuid != uuid {
				continue
			}
			if s.xids == nil {
				s.xids = make(map[int]int64)
			}
			s.xids[d.index] = int64(e.EventData)
			s.log.Warn("gpu reported a critical error", "gpu", d.index, "xid", e.EventData)
		}
	}
}

// has reports whether the loaded library has a function. To call one that it
// lacks would end the program: functions of NVML are bound when first called.
func (s *session) has(symbol string) bool {
	has, known := s.symbols[symbol]
	if !known {
		has = s.lib.Extensions().LookupSymbol(symbol) == nil
		if s.symbols == nil {
			s.symbols = make(map[string]bool)
		}
		s.symbols[symbol] = has
	}
	return has
}

// try calls f if the library has symbol, the function that f calls, by its oldest
// name where go-nvml chooses from several versions. Like a function that is
// missing, one of go-nvml's mocks that imitates nothing, and panics, is no fault
// of the GPU.
func try[T any](s *session, symbol string, f func() (T, nvml.Return)) (value T, ret nvml.Return) {
	defer func() {
		if recover() != nil {
			ret = nvml.ERROR_FUNCTION_NOT_FOUND
		}
	}()
	if !s.has(symbol) {
		return value, nvml.ERROR_FUNCTION_NOT_FOUND
	}
	return f()
}

// sick reports whether an answer means that the GPU is in trouble, and not only
// that it has no answer.
func sick(ret nvml.Return) bool {
	switch ret {
	case nvml.SUCCESS, nvml.ERROR_NOT_SUPPORTED, nvml.ERROR_FUNCTION_NOT_FOUND, nvml.ERROR_NO_PERMISSION,
		nvml.ERROR_NOT_FOUND, nvml.ERROR_NO_DATA, nvml.ERROR_INVALID_ARGUMENT, nvml.ERROR_INSUFFICIENT_SIZE,
		nvml.ERROR_ARGUMENT_VERSION_MISMATCH, nvml.ERROR_DEPRECATED, nvml.ERROR_IN_USE, nvml.ERROR_TIMEOUT,
		nvml.ERROR_VGPU_ECC_NOT_SUPPORTED, nvml.ERROR_MEMORY, nvml.ERROR_INSUFFICIENT_RESOURCES:
		return false
	}
	return true
}

// cString returns the text before the first zero byte.
func cString(chars []int8) string {
	b := make([]byte, 0, len(chars))
	for _, c := range chars {
		if c == 0 {
			break
		}
		b = append(b, byte(c))
	}
	return string(b)
}
