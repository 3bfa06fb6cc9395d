package integrity

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/hwdetect"
)

func TestParseXID(t *testing.T) {
	t.Parallel()
	for record, want := range map[string]KernelXID{
		"4,1234,98765432,-;NVRM: Xid (PCI:0000:01:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.\n": {
			98765432 * time.Microsecond, "0000:01:00.0", 79},
		"3,2,5,-,caller=T12;NVRM: Xid (PCI:00000000:C1:00): 31, pid=7\n SUBSYSTEM=pci\n": {5 * time.Microsecond, "0000:c1:00.0", 31},
		"3,2,5,-;NVRM: Xid (PCI:0000:01:00.1): 13":                                       {5 * time.Microsecond, "0000:01:00.1", 13},
		"6,1,1,-;NVRM: loading NVIDIA UNIX x86_64":                                       {},
		"6,1,1,-;NVRM: Xid (PCI:0000:01:00): ":                                           {},
		"6,1,x,-;NVRM: Xid (PCI:0000:01:00): 79":                                         {},
		"6;NVRM: Xid (PCI:0000:01:00): 79":                                               {},
		"6,1,1,-;NVRM: Xid (PCI:../../etc): 79":                                          {},
		"":                                                                               {},
	} {
		x, ok := parseXID([]byte(record))
		require.Equal(t, want, x, record)
		require.Equal(t, want.XID != 0, ok)
	}
}

func FuzzParseXID(f *testing.F) {
	f.Add([]byte("4,1234,98765432,-;NVRM: Xid (PCI:0000:01:00): 79, pid=1"))
	f.Fuzz(func(t *testing.T, record []byte) {
		if x, ok := parseXID(record); ok {
			require.GreaterOrEqual(t, x.Uptime, time.Duration(0))
			require.LessOrEqual(t, len(x.PCIBus), 40)
		}
	})
}

// An XID in the kernel's log counts though the agent was away when it came, and one from
// before the run does not.
func TestXIDsOfTheKernelsLog(t *testing.T) {
	t.Parallel()
	old := KernelXID{time.Second, "0000:01:00.0", 79}
	gpus := []hwdetect.GPUCounters{{Index: 0, PCIBus: "0000:01:00.0"}, {Index: 1, PCIBus: "0000:02:00.0"}}
	start := State{GPUs: gpus, XIDs: []KernelXID{old}}
	end := State{GPUs: gpus, XIDs: []KernelXID{old, {time.Minute, "0000:02:00.0", 31}, {time.Hour, "0000:02:00.0", 119}}}
	v := Decide(&Evidence{Start: start, End: &end}, Judges(DefaultRules())...)
	require.Equal(t, "Machine: INVALID - XID 119: the GPU failed on GPU 1", v.Line())
	end.XIDs = end.XIDs[:2]
	v = Decide(&Evidence{Start: start, End: &end}, Judges(DefaultRules())...)
	require.Equal(t, "Machine: WARNING - XID 31, which the benchmark itself caused on GPU 1", v.Line())
	end.BootID = "another"
	require.Empty(t, (&Evidence{Start: start, End: &end}).newXIDs())
}
