package integrity

import (
	"bytes"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/hwdetect"
)

// A KernelXID is an error of a GPU in the kernel's log. It is there whether or not this
// program ran at that time.
type KernelXID struct {
	Uptime time.Duration `json:"uptime_ns"` // when it was logged, since the boot
	PCIBus string        `json:"pci_bus"`   // such as 0000:01:00.0
	XID    int64         `json:"xid"`
}

const (
	// kernelLog is the kernel's log, which only root may read on most machines
	// (kernel.dmesg_restrict).
	kernelLog = "/dev/kmsg"

	maxKernelXIDs    = 200     // the latest ones are kept
	maxKernelRecords = 100_000 // a kernel's log has a few thousand
)

// parseXID parses a record of /dev/kmsg, such as
//
//	4,1234,98765432,-;NVRM: Xid (PCI:0000:01:00): 79, pid=1234, GPU has fallen off the bus.
//
// whose third field is the time in microseconds since the boot
// (Documentation/ABI/testing/dev-kmsg).
func parseXID(record []byte) (x KernelXID, ok bool) {
	prefix, text, ok := bytes.Cut(record, []byte(";"))
	if !ok {
		return x, false
	}
	_, text, ok = bytes.Cut(text, []byte("NVRM: Xid (PCI:"))
	if !ok {
		return x, false
	}
	fields := bytes.Split(prefix, []byte(","))
	bus, rest, ok := bytes.Cut(text, []byte("): "))
	if !ok || len(fields) < 3 || len(bus) > 32 {
		return x, false
	}
	digits := rest[:len(rest)-len(bytes.TrimLeft(rest, "0123456789"))]
	us, err := strconv.ParseInt(string(fields[2]), 10, 64)
	code, codeErr := strconv.ParseInt(string(digits), 10, 32)
	if err != nil || codeErr != nil || us < 0 || us > math.MaxInt64/1000 {
		return x, false
	}
	address := hwdetect.BusAddress(string(bus))
	if !strings.Contains(address, ".") {
		address += ".0" // the driver leaves the function out
	}
	if strings.Trim(address, "0123456789abcdef:.") != "" {
		return x, false
	}
	return KernelXID{Uptime: time.Duration(us) * time.Microsecond, PCIBus: address, XID: code}, true
}

// newXIDs returns the errors in the kernel's log at the end that were not there at the
// start. The log says nothing about what it has lost.
func (e *Evidence) newXIDs() []KernelXID {
	if e.End == nil || !e.SameBoot() {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(e.End.XIDs), func(x KernelXID) bool { return slices.Contains(e.Start.XIDs, x) })
}

// xidsOf returns the new errors of the GPU with that index, from the kernel's log and
// from samples. The latter come from the driver's events, of which samples keep the last
// between two.
func (e *Evidence) xidsOf(gpu int) (codes []int64) {
	for _, x := range e.newXIDs() {
		if at := slices.IndexFunc(e.Start.GPUs, hasIndex(gpu)); at >= 0 && e.Start.GPUs[at].PCIBus == x.PCIBus && !slices.Contains(codes, x.XID) {
			codes = append(codes, x.XID)
		}
	}
	if s := e.Samples.gpu(gpu); s != nil {
		for _, code := range s.XIDs {
			if !slices.Contains(codes, code) {
				codes = append(codes, code)
			}
		}
	}
	return codes
}
