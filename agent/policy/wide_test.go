package policy

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWide(t *testing.T) {
	t.Parallel()
	require.Empty(t, Default(machine).Wide())
	require.Empty(t, Policy{}.Wide())
	require.Empty(t, Default(Machine{StorageDir: "~/.kitt/models", Dir: "/root/.kitt", Home: "/root"}).Wide(), "root's own default")
	narrow := Default(Machine{StorageDir: "/data/models", ShareMount: "/nas", Dir: "/opt/kitt", Home: "/home/ann"})
	narrow.StorageDirs, narrow.ModelDirs = []string{"/fast/models", "/home/ann/models", "/usr/"}, []string{"/opt/models", "~/hub"}
	require.Empty(t, narrow.Wide())

	wide := Default(Machine{StorageDir: "~", ShareMount: "/etc/nas", Dir: "/opt/kitt", Home: "/home/ann"})
	wide.StorageDirs, wide.ModelDirs, wide.Images = []string{"/etc/cron.d", "/var", "/opt/kitt/jobs"}, []string{"/home"}, []string{"**", "kitt"}
	said := wide.Wide()
	require.Len(t, said, 7)
	require.Contains(t, said[0], "policy.storage_dirs has /etc/cron.d")
	require.Contains(t, said[3], "model_storage_dir is ~: the server can have any file of a share written into the home directory")
	require.Contains(t, said[6], "policy.images has **")
}
