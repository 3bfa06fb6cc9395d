//go:build !(linux && cgo && nvml)

package nvml

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/hwdetect/hwdetecttest"
)

func TestWithoutNVML(t *testing.T) {
	s := New(Config{})
	require.False(t, Available)
	_, err := s.Inventory(t.Context())
	require.ErrorIs(t, err, hwdetect.ErrAbsent)
	require.ErrorContains(t, err, "built without NVML; build with -tags nvml")
	_, err = s.Telemetry(t.Context())
	require.ErrorIs(t, err, hwdetect.ErrAbsent)
	require.NoError(t, s.Close())
}

// A machine whose GPUs are read through nvidia-smi says why NVML wasn't asked. One
// without GPUs has nothing to say of it.
func TestMachineWithoutNVML(t *testing.T) {
	for file, want := range map[string]string{"a100-1.txt": "built without NVML; build with -tags nvml, for Linux and with cgo", "laptop.txt": ""} {
		text, err := os.ReadFile("../testdata/" + file)
		require.NoError(t, err)
		recording, err := hwdetecttest.ParseRecording(string(text))
		require.NoError(t, err)
		cfg := recording.Config()
		cfg.Sources = []hwdetect.Source{New(Config{})}
		system, err := hwdetect.New(cfg)
		require.NoError(t, err)
		m, err := system.Detect(t.Context())
		require.NoError(t, err)
		require.NoError(t, system.Close())
		said := ""
		for _, g := range m.Gaps {
			if g.What == "nvml" {
				said = g.Reason
			}
		}
		require.Equal(t, want, said, file)
		require.Equal(t, want != "", len(m.GPUs) > 0, file)
	}
}
