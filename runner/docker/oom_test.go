package docker

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseKills(t *testing.T) {
	t.Parallel()
	require.EqualValues(t, 7, parseKills("pgfault 1\noom_kill 7\nnumb 2\n"))
	require.EqualValues(t, -1, parseKills("oom_kill many\n"))
	require.EqualValues(t, -1, parseKills("oom_kill_disable 1\n"))
	require.EqualValues(t, -1, parseKills(""))
	require.GreaterOrEqual(t, kernelKills(), int64(0))
}

func TestKernelKilled(t *testing.T) {
	t.Parallel()
	rec := record{Boot: "b", Kills: 3}
	require.True(t, rec.kernelKilled(137, 4, "b"))
	require.False(t, rec.kernelKilled(137, 3, "b"), "nobody was killed for memory")
	require.False(t, rec.kernelKilled(143, 4, "b"), "the kernel kills with SIGKILL")
	require.False(t, rec.kernelKilled(137, 4, "c"), "the count began anew")
	require.False(t, record{Boot: "b", Kills: -1}.kernelKilled(137, 4, "b"))
	require.False(t, rec.kernelKilled(137, -1, "b"))
}

func FuzzParseKills(f *testing.F) {
	f.Add("oom_kill 3\n")
	f.Fuzz(func(t *testing.T, text string) {
		if n := parseKills(text); n < -1 {
			t.Fatal(n)
		}
	})
}
