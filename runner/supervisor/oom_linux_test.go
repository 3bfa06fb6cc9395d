package supervisor

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestOOM(t *testing.T) {
	t.Parallel()
	require.Equal(t, "/sys/fs/cgroup/a/b/memory.events", oomFile("0::/a/b\n"))
	require.Equal(t, "/sys/fs/cgroup/memory/x/memory.oom_control", oomFile("5:cpu,memory:/x\n0::/a\n"))
	require.Empty(t, oomFile("nonsense"))
	require.EqualValues(t, 3, parseOOM("low 0\noom 4\noom_kill 3\noom_group_kill 0\n"))
	require.EqualValues(t, 2, parseOOM("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"))
	require.Zero(t, parseOOM("oom_kill many\n"))
	killed := unix.WaitStatus(unix.SIGKILL)
	require.True(t, ExitOf(killed, true).OOM)
	require.False(t, ExitOf(killed, false).OOM)
	require.False(t, ExitOf(unix.WaitStatus(unix.SIGTERM), true).OOM)
	require.True(t, ExitOf(unix.WaitStatus(137<<8), true).OOM, "a shell in between says 137")
}

func FuzzParseOOM(f *testing.F) {
	f.Add("oom_kill 3\n")
	f.Add("0::/a\n")
	f.Fuzz(func(_ *testing.T, text string) {
		parseOOM(text)
		oomFile(text)
	})
}
