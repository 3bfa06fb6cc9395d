package hwdetect

import (
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

func TestFindMount(t *testing.T) {
	t.Parallel()
	const mounts = `1 0 8:1 / / rw - ext4 /dev/sda1 rw
2 1 8:2 / /data rw shared:1 - xfs /dev/sda2 rw
3 1 8:3 / /data\040disk rw - xfs /dev/sda3 rw
4 2 0:9 / /data/nas rw - nfs nas:/x rw
5 2 8:4 / /data/nas rw - ext4 /dev/sdb1 rw
broken line
`
	for dir, want := range map[string]string{
		"/": "8:1", "/home": "8:1", "/data": "8:2", "/data/x": "8:2", "/database": "8:1", "/data disk/m": "8:3", "/data/nas/m": "8:4",
	} {
		m, ok := findMount(mounts, dir)
		require.True(t, ok)
		require.Equal(t, want, m.device, dir)
	}
	_, ok := findMount("", "/")
	require.False(t, ok)
}

func TestResolve(t *testing.T) {
	t.Parallel()
	link := func(target string) *fstest.MapFile {
		return &fstest.MapFile{Mode: fs.ModeSymlink, Data: []byte(target)}
	}
	root := fstest.MapFS{
		"home/me/.kitt": link("/data/kitt"), "data": link("mnt/big"), "mnt/big/kitt": link("../real"),
		"loop/a": link("/loop/b"), "loop/b": link("/loop/a"),
	}
	require.Equal(t, "/mnt/real/models", resolve(root, "/home/me/.kitt/models"))
	require.Equal(t, "/plain/not/there", resolve(root, "/plain/./x/../not/there/"))
	require.NotEmpty(t, resolve(root, "/loop/a/x"), "a loop of links ends")
}
