package supervisor

import (
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

func TestGPUDevices(t *testing.T) {
	t.Parallel()
	for want, names := range map[int][]string{
		0: {"null", "nvidiactl", "nvidia-uvm", "nvidia-caps/nvidia-cap1"}, 2: {"nvidia0", "nvidia13", "nvidiactl"}, -1: {"dxg", "nvidiactl"},
	} {
		dev := fstest.MapFS{}
		for _, name := range names {
			dev[name] = &fstest.MapFile{}
		}
		require.Equal(t, want, gpuDevices(dev), names)
	}
	require.Equal(t, -1, gpuDevices(fstest.MapFS{"nvmap": {}}))
	require.Equal(t, -1, gpuDevices(os.DirFS(filepath.Join(t.TempDir(), "none"))))
}

func TestCheckGPUs(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		cfg   Config
		sees  int
		fault string
	}{
		{Config{GPUs: 2}, 2, ""},
		{Config{GPUs: 2}, 1, FaultFewGPUs},
		{Config{GPUs: 2}, 8, ""},
		{Config{GPUs: 2, GPUsOnly: true}, 8, FaultManyGPUs},
		{Config{GPUs: 2, GPUsOnly: true}, 2, ""},
		{Config{GPUs: 2, GPUsOnly: true}, -1, ""},
		{Config{}, 8, ""},
	} {
		e := tt.cfg.checkGPUs(Exit{Devices: tt.sees})
		require.Equal(t, tt.fault, e.Fault, tt)
		require.Equal(t, tt.fault != "", e.Error != "", tt)
	}
}
