package docker

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestContainersOfControlGroups(t *testing.T) {
	t.Parallel()
	a, b := strings.Repeat("a1", 32), strings.Repeat("b2", 32)
	for text, want := range map[string][]string{
		"0::/user.slice/user-1000.slice\n":                             nil,
		"12:devices:/docker/" + a + "\n11:cpu:/docker/" + a + "\n":     {a},
		"0::/system.slice/docker-" + a + ".scope\n":                    {a},
		"0::/docker/" + a + "/docker/" + b + "\n":                      {a, b},
		"0::/docker/" + a[:63] + "\n":                                  nil,
		"0::/kubepods/burstable/pod1/cri-containerd-" + b + ".scope\n": {b},
		strings.Repeat("x", maxGroupFile) + "/docker/" + a:             nil,
		"": nil,
	} {
		require.Equal(t, want, containersIn([]byte(text)), text[:min(len(text), 80)])
	}
}

func FuzzContainersIn(f *testing.F) {
	f.Add([]byte("0::/system.slice/docker-" + strings.Repeat("ab", 32) + ".scope\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, id := range containersIn(text) {
			require.Len(t, id, 64)
		}
	})
}
