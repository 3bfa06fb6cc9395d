package storage

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseMounts(t *testing.T) {
	t.Parallel()
	got := parseMounts("22 1 254:0 / / rw - ext4 /dev/vda rw\n" +
		"36 22 0:40 / /mnt/with\\040blank rw,noatime master:1 - nfs4 nas:/v rw\nnonsense\n40 22 0:41 / /x\n")
	require.Equal(t, []mountPoint{{"/", "ext4"}, {"/mnt/with blank", "nfs4"}}, got)
	require.True(t, got[1].holds("/mnt/with blank/model"))
	require.False(t, got[1].holds("/mnt/with blanket"))
	mounts, err := mountPoints()
	require.NoError(t, err)
	require.NotEmpty(t, mounts)
	require.Equal(t, "/", mountOf("/nothing-is-mounted-here"))
}

func TestHolding(t *testing.T) {
	t.Parallel()
	mounts := []mountPoint{{"/", "overlay"}, {"/mnt/nas", "autofs"}, {"/mnt/nas", "nfs4"}, {"/mnt/nas2", "ext4"}}
	for path, want := range map[string]string{"/mnt/nas/models": "nfs4", "/mnt/nas": "nfs4", "/mnt/nas2": "ext4", "/mnt": "overlay", "/mnt/nas3": "overlay"} {
		require.Equal(t, want, holding(mounts, path).kind, path)
	}
	require.Empty(t, holding(nil, "/x").kind)
}
