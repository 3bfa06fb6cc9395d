package hwdetect

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestProfiles(t *testing.T) {
	t.Parallel()
	for _, name := range Profiles() {
		m, ok := Profile(name)
		require.True(t, ok, name)
		requirePlausible(t, m)
	}
	_, ok := Profile("abacus")
	require.False(t, ok)

	a, _ := Profile("h100-8")
	a.Hostname, a.GPUs[0].Model = "mine", "changed"
	b, _ := Profile("h100-8")
	require.Equal(t, "h100-8", b.Hostname)
	require.Equal(t, "NVIDIA H100 80GB HBM3", b.GPUs[0].Model)
	require.Len(t, b.GPUs[3].NVLinkPeers, 7)
}

func TestRandomMachinesDependOnlyOnTheSeed(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for seed := range uint64(500) {
		m := Random(seed)
		require.Equal(t, m, Random(seed))
		requirePlausible(t, m)
		for _, g := range m.GPUs {
			require.False(t, seen[g.UUID], "UUID %s twice", g.UUID)
			seen[g.UUID] = true
		}
	}
}

func requirePlausible(t *testing.T, m *Machine) {
	t.Helper()
	require.NotEmpty(t, m.CPU.Model)
	require.GreaterOrEqual(t, m.CPU.Threads, m.CPU.Cores)
	require.Greater(t, m.MemoryBytes, int64(4<<30))
	require.NotNil(t, m.GPUs)
	require.NotEmpty(t, m.EnvironmentType)
	require.Equal(t, diskBrand(m.Storage.Model), m.Storage.Brand)
	for i, g := range m.GPUs {
		require.Equal(t, i, g.Index)
		require.Positive(t, g.MemoryBytes, m.Hostname)
		require.NotEmpty(t, g.ComputeCapability)
		require.Equal(t, IntegratedGPU(g.Model, g.ComputeCapability), g.Unified)
		if g.MIG != nil {
			var sum int64
			for _, s := range g.MIG.Instances {
				sum += s.MemoryBytes
			}
			require.LessOrEqual(t, sum, g.MemoryBytes)
		}
	}
}

func TestEveryGPUModelIsFoundByItsName(t *testing.T) {
	t.Parallel()
	for _, m := range GPUModels() {
		got, ok := LookupGPUModel(m.Name)
		require.True(t, ok)
		require.Equal(t, m, got)
		require.Positive(t, m.BandwidthGBps)
		require.Positive(t, m.FP16TFLOPS)
	}
	_, ok := LookupGPUModel("geforce rtx 4090")
	require.True(t, ok)
	_, ok = LookupGPUModel("")
	require.False(t, ok)
}
