package hwdetect

import (
	"slices"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

func TestParseCPUs(t *testing.T) {
	t.Parallel()
	for list, want := range map[string]string{"": "", "0": "0", "0-3,8": "0-3,8", "8,0-3\n": "0-3,8", "0-1,1-2": "0-2"} {
		cpus, err := ParseCPUs(list)
		require.NoError(t, err, list)
		require.Equal(t, want, FormatCPUs(cpus), list)
	}
	for _, list := range []string{"a", "3-1", "0-", "-1", "0-99999999", "0-65536"} {
		_, err := ParseCPUs(list)
		require.Error(t, err, list)
	}
}

func FuzzParseCPUs(f *testing.F) {
	f.Add("0-3,8")
	f.Fuzz(func(t *testing.T, list string) {
		cpus, err := ParseCPUs(list)
		if err != nil {
			return
		}
		require.True(t, slices.IsSorted(cpus))
		again, err := ParseCPUs(FormatCPUs(cpus))
		require.NoError(t, err)
		require.Equal(t, cpus, again)
	})
}

// TestPlaceOfGPUs reads NUMA nodes and CPUs as the kernel shows them.
func TestPlaceOfGPUs(t *testing.T) {
	t.Parallel()
	const dir = "sys/bus/pci/devices/"
	inv := Inventory{GPUs: []GPU{{PCIBus: "0000:1a:00.0"}, {PCIBus: "0000:2a:00.0"}, {PCIBus: "../../x"}, {}}}
	inv.place(fstest.MapFS{
		dir + "0000:1a:00.0/numa_node":     {Data: []byte("1\n")},
		dir + "0000:1a:00.0/local_cpulist": {Data: []byte("56-111,168-223\n")},
		dir + "0000:2a:00.0/numa_node":     {Data: []byte("-1\n")},
		dir + "0000:2a:00.0/local_cpulist": {Data: []byte("0-255\n")},
	})
	require.Equal(t, 1, *inv.GPUs[0].NUMANode)
	require.Equal(t, "56-111,168-223", inv.GPUs[0].CPUs)
	require.Nil(t, inv.GPUs[1].NUMANode, "the machine has one node, or tells none")
	require.Equal(t, "0-255", inv.GPUs[1].CPUs)
	require.Equal(t, GPU{PCIBus: "../../x"}, inv.GPUs[2])
}

func TestCloseness(t *testing.T) {
	t.Parallel()
	linked := GPU{Index: 0, NVLinkPeers: []int{1}, Links: []GPULink{{2, PathSwitch}, {3, PathSystem}}, NUMANode: new(0)}
	require.Equal(t, 6, linked.Closeness(GPU{Index: 1}))
	require.Equal(t, 4, linked.Closeness(GPU{Index: 2}))
	require.Equal(t, 0, linked.Closeness(GPU{Index: 3, NUMANode: new(1)}))
	require.Equal(t, 1, linked.Closeness(GPU{Index: 4, NUMANode: new(0)}), "without a path, by the NUMA node")
	require.Equal(t, 0, linked.Closeness(GPU{Index: 5}))
}

// TestOtherGPUs describes an Instinct, an Arc, and leaves out what is no GPU.
func TestOtherGPUs(t *testing.T) {
	t.Parallel()
	const dir = "sys/bus/pci/devices/"
	root := fstest.MapFS{
		"usr/share/misc/pci.ids": {Data: []byte("# list\n1002  Advanced Micro Devices\n\t74a1  Aqua Vanjaram [Instinct MI300X]\n\t\t1002 0001  sub\n8086  Intel\n\t56a0  DG2 [Arc A770]\n")},
	}
	device := func(address string, files ...string) {
		for i := 0; i < len(files); i += 2 {
			root[dir+address+"/"+files[i]] = &fstest.MapFile{Data: []byte(files[i+1] + "\n")}
		}
	}
	device("0000:05:00.0", "vendor", "0x1002", "class", "0x120000", "device", "0x74a1", "mem_info_vram_total", "206141652992", "numa_node", "0")
	device("0000:06:00.0", "vendor", "0x8086", "class", "0x030000", "device", "0x56a0", "numa_node", "-1")
	device("0000:07:00.0", "vendor", "0x8086", "class", "0x020000", "device", "0x1572") // a network card
	device("0000:08:00.0", "vendor", "0x10de", "class", "0x030200", "device", "0x2330") // NVIDIA's, which has sources of its own
	device("0000:09:00.0", "vendor", "0x1002", "class", "0x038000", "device", "0xffff")
	require.Equal(t, []OtherGPU{
		{Vendor: "AMD", Model: "Aqua Vanjaram [Instinct MI300X]", PCIBus: "0000:05:00.0", Device: "1002:74a1", MemoryBytes: 206141652992, NUMANode: new(0)},
		{Vendor: "Intel", Model: "DG2 [Arc A770]", PCIBus: "0000:06:00.0", Device: "8086:56a0"},
		{Vendor: "AMD", Model: "AMD GPU ffff", PCIBus: "0000:09:00.0", Device: "1002:ffff"},
	}, otherGPUs(root))
}

func FuzzPCIIDs(f *testing.F) {
	f.Add("1002  AMD\n\t74a1  MI300X\n")
	f.Fuzz(func(t *testing.T, text string) {
		name := (&pciIDs{text}).name("1002", "74a1")
		require.LessOrEqual(t, len(name), 200)
	})
}

// TestFakeMachinesHaveATopology checks that a machine with two sockets has its GPUs on both.
func TestFakeMachinesHaveATopology(t *testing.T) {
	t.Parallel()
	m, _ := Profile("h100-8")
	require.Equal(t, 0, *m.GPUs[3].NUMANode)
	require.Equal(t, 1, *m.GPUs[4].NUMANode)
	require.Equal(t, "0-55,112-167", m.GPUs[0].CPUs)
	require.Equal(t, "56-111,168-223", m.GPUs[7].CPUs)
	require.Equal(t, []GPULink{{1, PathNode}, {2, PathNode}, {3, PathNode}, {4, PathSystem}, {5, PathSystem}, {6, PathSystem}, {7, PathSystem}}, m.GPUs[0].Links)
}
