package execution

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/runner"
)

func TestAgentInfoIsBounded(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"x", strings.Repeat("<", 10_000), strings.Repeat("\x00", 5000), strings.Repeat("\u2028", 5000), "\xff\xfe"} {
		for _, gpus := range []int{0, 8, 300} {
			info := agentInfo{Schema: AgentSchema, Name: text, Model: text, ModelPath: text, Profile: text, Image: &imageInfo{ID: text, Digest: text}}
			for range gpus {
				info.GPUs = append(info.GPUs, gpuInfo{UUID: text, Model: text})
			}
			decoded := info.bounded()
			require.Equal(t, AgentSchema, decoded["schema"])
			require.Contains(t, decoded, "model")
			data, err := json.Marshal(decoded)
			require.NoError(t, err)
			require.LessOrEqual(t, len(data), maxAgentInfo)
			require.Equal(t, text, info.Image.ID, "info stays as it was")
		}
	}
}

func TestGPUsOfARun(t *testing.T) {
	t.Parallel()
	m := &hwdetect.Machine{GPUs: []hwdetect.GPU{{Index: 0, UUID: "GPU-a"}, {Index: 1, UUID: "GPU-b"}, {Index: 2, UUID: "GPU-c"}}}
	require.Len(t, gpusOf(m, []string{runner.AllGPUs}), 3)
	require.Equal(t, []gpuInfo{{Index: 1, UUID: "GPU-b"}, {Index: 2, UUID: "GPU-c"}}, gpusOf(m, []string{"GPU-b", "2"}))
	require.Empty(t, gpusOf(m, nil))
}
