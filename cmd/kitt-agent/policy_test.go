package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
)

// A nil list of a policy allows anything, so none of kitt-agent's is nil.
func TestPolicyOfAlwaysLimits(t *testing.T) {
	t.Parallel()
	for _, cfg := range []*config.Config{
		{},
		{Policy: config.Policy{ServerMaySet: []string{}, StorageDirs: []string{}, Shares: []string{}, ModelDirs: []string{}, Images: []string{}}},
	} {
		p := policyOf(cfg)
		for _, list := range [][]string{p.ServerMaySet, p.StorageDirs, p.Shares, p.MountDirs, p.ModelDirs, p.Images} {
			require.NotNil(t, list)
		}
		require.Error(t, p.CheckModel("/etc/shadow"))
		require.NotNil(t, guardStorage(storageConfig(cfg), p).CheckModel)
	}
	p := policyOf(&config.Config{Models: config.Models{Dirs: []string{"/hub"}}, Policy: config.Policy{ModelDirs: []string{"/opt/models"}}})
	require.Equal(t, []string{"/opt/models", "/hub"}, p.ModelDirs)
	require.NoError(t, p.CheckModel("/hub/m"))
}
