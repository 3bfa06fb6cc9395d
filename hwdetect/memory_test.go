package hwdetect

import (
	"encoding/hex"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

func TestMemTotal(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		meminfo string
		want    int64
		err     string
	}{
		{"MemTotal:       125513916 kB\nMemFree: 9 kB\n", 128526249984, ""},
		{"MemFree: 9 kB\n", 0, "no MemTotal"},
		{"MemTotal: much\n", 0, "cannot read"},
		{"MemTotal: 99999999999999999 kB\n", 0, "cannot read"},
		{"MemTotal: -1 kB\n", 0, "cannot read"},
	} {
		got, err := memTotal(fstest.MapFS{"proc/meminfo": {Data: []byte(tt.meminfo)}})
		require.Equal(t, tt.want, got)
		if tt.err != "" {
			require.ErrorContains(t, err, tt.err)
		} else {
			require.NoError(t, err)
		}
	}
	_, err := memTotal(fstest.MapFS{})
	require.EqualError(t, err, "proc/meminfo: no such file")
}

// memoryDevice is an SMBIOS structure of type 17 with a size and a kind.
func memoryDevice(size uint16, kind byte) []byte {
	s := make([]byte, 0x28)
	s[0], s[1] = 17, 0x28
	s[0x0c], s[0x0d], s[0x12] = byte(size), byte(size>>8), kind
	return append(s, "DIMM 0\x00Samsung\x00\x00"...)
}

func TestMemoryType(t *testing.T) {
	t.Parallel()
	bios, err := hex.DecodeString("0018000001020003") // a BIOS structure, cut short
	require.NoError(t, err)
	bios = append(append(bios, make([]byte, 0x10)...), "vendor\x00\x00"...)
	table := func(parts ...[]byte) *fstest.MapFile {
		var all []byte
		for _, p := range parts {
			all = append(all, p...)
		}
		return &fstest.MapFile{Data: all}
	}
	end := []byte{127, 4, 0, 0, 0, 0}
	const dmi, mc = "sys/firmware/dmi/tables/DMI", "sys/devices/system/edac/mc/mc0/dimm1/dimm_mem_type"
	for _, tt := range []struct {
		name string
		root fstest.MapFS
		want string
	}{
		{"firmware, first socket empty", fstest.MapFS{dmi: table(bios, memoryDevice(0, 0x1a), memoryDevice(0x7fff, 0x22), end)}, "DDR5"},
		{"firmware, low power", fstest.MapFS{dmi: table(memoryDevice(1, 0x23))}, "LPDDR5"},
		{"firmware, nothing fitted", fstest.MapFS{dmi: table(bios, memoryDevice(0, 0x1a), end, memoryDevice(1, 0x1a))}, ""},
		{"firmware, broken", fstest.MapFS{dmi: table([]byte{17, 2, 0, 0, 0})}, ""},
		{"memory controller", fstest.MapFS{mc: {Data: []byte("Registered-DDR4\n")}}, "DDR4"},
		{"memory controller, low power", fstest.MapFS{mc: {Data: []byte("Low-Power-DDR4-RAM\n")}}, "LPDDR4"},
		{"udev comes first", fstest.MapFS{"run/udev/data/+dmi:id": {Data: []byte("E:MEMORY_DEVICE_3_TYPE=LPDDR5X\n")}, mc: {Data: []byte("RDDR4")}}, "LPDDR5X"},
		{"udev knows no kind", fstest.MapFS{"run/udev/data/+dmi:id": {Data: []byte("E:MEMORY_DEVICE_0_TYPE=RAM\n")}, mc: {Data: []byte("Unbuffered-DDR3\n")}}, "DDR3"},
		{"nothing", fstest.MapFS{}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := memoryType(tt.root)
			require.Equal(t, tt.want, got)
			require.Equal(t, tt.want == "", err != nil)
		})
	}
}
