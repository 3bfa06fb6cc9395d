//go:build linux && cgo && nvml

package nvml

import (
	"fmt"
	"log/slog"
	"slices"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/kirizan/kitt-agent/hwdetect"
)

// A session is one initialisation of NVML, and what is kept when it ends. It is
// not safe for concurrent use.
type session struct {
	libraries []nvml.Interface // tried in order
	log       *slog.Logger

	lib     nvml.Interface // the initialised one, or nil
	devices []device
	events  nvml.EventSet // of XIDs; nil if unsupported

	symbols map[string]bool // which functions the loaded library has
	known   []device        // every GPU seen so far
	xids    map[int]int64   // the latest XID by index

	seenUtilization map[string]uint64 // the newest sample of a process's utilisation by UUID, in µs
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

// String returns the name of the device in messages.
func (d device) String() string {
	name := fmt.Sprintf("GPU %d", d.index)
	if d.bus != "" {
		name += " at " + d.bus
	}
	return name
}

// begin initialises NVML if necessary. If a GPU has no handle it starts a new
// session, since only a new one finds a GPU that came back.
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

// initError returns the error for a failed initialisation.
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

// A faultError is an answer from NVML that reports a fault.
type faultError struct {
	what string
	ret  nvml.Return
}

// Error returns what failed and an explanation of NVML's answer.
func (e *faultError) Error() string { return e.what + ": " + explain(e.ret) }

// explain describes an answer and, where possible, the remedy. (nvml.Return has a
// text too, but it comes from a variable that changes when a library is loaded.)
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
		return "the kernel detected a problem with the GPU's interrupts"
	case nvml.ERROR_CORRUPTED_INFOROM:
		return "the GPU's stored settings (infoROM) are corrupted"
	case nvml.ERROR_NOT_SUPPORTED:
		return "the GPU does not support this query"
	case nvml.ERROR_FUNCTION_NOT_FOUND:
		return "the library is too old for this query"
	case nvml.ERROR_NO_PERMISSION:
		return "this query needs root"
	case nvml.ERROR_TIMEOUT:
		return "the driver did not answer in time"
	case nvml.ERROR_UNKNOWN:
		return "the driver reports an unknown error; see dmesg"
	}
	return fmt.Sprintf("NVML error %d", int(ret))
}

// end shuts NVML down, so that the next begin initialises it.
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
		return &faultError{"count the GPUs", ret}
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
		if d.uuid != "" && !slices.ContainsFunc(s.known, func(k device) bool { return k.uuid == d.uuid }) {
			s.known = append(s.known, *d)
		}
	}
	s.watchXIDs()
	return nil
}

// watchXIDs has the driver queue critical errors for collectXIDs.
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

// collectXIDs fetches the critical errors that were queued since its last call.
func (s *session) collectXIDs() {
	if s.events == nil {
		return
	}
	for range 100 { // the driver's queue is shorter
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
			s.log.Warn("gpu critical error", "gpu", d.index, "xid", e.EventData)
		}
	}
}

// has reports whether the loaded library has a function. Calling a missing one
// would end the program, because NVML's functions are bound at their first call.
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

// try calls f if the library has symbol, the NVML function that f calls. Where
// go-nvml chooses from several versions, symbol is the oldest one. A function of
// go-nvml's mocks that is not implemented panics; try treats it as missing.
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

// isFault reports whether an answer means that the GPU has a fault, and not only
// that a value is unavailable.
func isFault(ret nvml.Return) bool {
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
