package hwdetect

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Merging inventories keeps everything that a source knows, and counts no GPU
// twice.
func TestAddingInventoriesLosesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 8).Draw(t, "gpus")
		full := Inventory{DriverVersion: "1.2", CUDADriver: "3.4"}
		for i := range n {
			full.GPUs = append(full.GPUs, GPU{Index: i, Model: "M", UUID: uuid(1, uint64(i)), PCIBus: "bus" + uuid(2, uint64(i)), MemoryBytes: int64(i + 1), ComputeCapability: "9.0", PowerLimitW: 1})
		}
		var sum Inventory
		var known [8]struct{ model, memory, seen bool }
		for range rapid.IntRange(1, 4).Draw(t, "sources") {
			var part Inventory
			for i, g := range full.GPUs {
				if !rapid.Bool().Draw(t, "sees") {
					continue
				}
				known[i].seen = true
				if rapid.Bool().Draw(t, "no model") {
					g.Model = ""
				} else {
					known[i].model = true
				}
				if rapid.Bool().Draw(t, "no memory") {
					g.MemoryBytes = 0
				} else {
					known[i].memory = true
				}
				part.GPUs = append(part.GPUs, g)
			}
			sum.add(part)
		}
		want := 0
		for i := range n {
			if known[i].seen {
				want++
			}
		}
		require.Len(t, sum.GPUs, want)
		for _, g := range full.GPUs {
			if !known[g.Index].seen {
				continue
			}
			got := sum.find(g)
			require.NotNil(t, got)
			require.Equal(t, known[g.Index].model, got.Model != "")
			require.Equal(t, known[g.Index].memory, got.MemoryBytes == g.MemoryBytes)
		}
	})
}

func TestIntegratedGPU(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		model, capability string
		want              bool
	}{
		{"NVIDIA GB10", "12.1", true},
		{"NVIDIA GB10", "", true},
		{"Orin (nvgpu)", "8.7", true},
		{"NVIDIA Thor", "11.0", true},
		{"NVIDIA Thor", "", true},
		{"NVIDIA GH200 480GB", "9.0", false},
		{"NVIDIA GB200", "10.0", false},
		{"NVIDIA GB100", "", false},
		{"NVIDIA H100 80GB HBM3", "", false},
		{"NVIDIA GB10", "9.0", false},
	} {
		require.Equal(t, tt.want, IntegratedGPU(tt.model, tt.capability), tt.model)
	}
}
