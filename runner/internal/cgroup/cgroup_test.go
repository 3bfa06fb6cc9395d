package cgroup

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestFind(t *testing.T) {
	t.Parallel()
	const (
		unified = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
		hybrid  = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n" +
			"41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
	)
	for name, c := range map[string]struct{ mounts, groups, want string }{
		"service":                {unified, "0::/system.slice/kitt-agent.service\n", "/sys/fs/cgroup/system.slice/kitt-agent.service"},
		"hybrid":                 {hybrid, "9:cpuset:/\n0::/\n", "/sys/fs/cgroup/unified"},
		"version 1":              {hybrid, "9:cpuset:/\n", ""},
		"not mounted":            {"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n", "0::/a\n", ""},
		"part of the tree":       {"29 23 0:26 /a/b /mnt rw - cgroup2 none rw\n", "0::/a/b/c\n", "/mnt/c"},
		"another part":           {"29 23 0:26 /a/b /mnt rw - cgroup2 none rw\n", "0::/a/x\n", ""},
		"outside of a namespace": {"29 23 0:26 / /mnt rw - cgroup2 none rw\n", "0::/../x\n", "/mnt/x"},
		"removed":                {unified, "0::/a (deleted)\n", ""},
		"nonsense":               {"29 - cgroup2\n\n- cgroup2 \n", "0::\n", ""},
	} {
		got, err := find(c.mounts, c.groups)
		require.Equal(t, c.want, got, name)
		require.Equal(t, c.want == "", err != nil, name)
	}
}

func FuzzFind(f *testing.F) {
	f.Add("29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/a\n")
	f.Fuzz(func(t *testing.T, mounts, groups string) {
		if path, err := find(mounts, groups); err == nil && path == "" {
			t.Fatal("neither a path nor an error")
		}
	})
}

// TestKill kills processes that have left their group, their session and their parent,
// and others that go on forking.
func TestKill(t *testing.T) {
	t.Parallel()
	g, err := Create("kitt-test-" + filepath.Base(t.TempDir()) + time.Now().Format("150405.000000"))
	if err != nil {
		t.Skipf("SKIPPED for want of a control group: %v", err)
	}
	cmd := exec.Command("sh", "-c", `read go; setsid sh -c 'setsid sleep 1000 & while true; do sh -c true & done' & sleep 1000`)
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	if err := g.Add(cmd.Process.Pid); err != nil {
		t.Skipf("SKIPPED because processes can't be moved into %s: %v", g, err)
	}
	_, err = stdin.Write([]byte("go\n"))
	require.NoError(t, err)
	require.Eventually(t, func() bool { pids, err := g.PIDs(); return err == nil && len(pids) > 3 }, 20*time.Second, time.Millisecond)
	require.NoError(t, os.Mkdir(filepath.Join(string(g), "below"), 0o755))
	killed := make(chan error, 1)
	go func() { killed <- cmd.Wait() }() // a zombie is still in its group
	require.NoError(t, g.Kill(time.Minute))
	<-killed
	require.NoDirExists(t, string(g))
	require.NoError(t, g.Kill(0), "it is gone")
	pids, err := g.PIDs()
	require.NoError(t, err)
	require.Empty(t, pids)
	require.NoError(t, Group("").Kill(0))
}
