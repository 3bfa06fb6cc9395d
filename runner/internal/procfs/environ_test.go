package procfs

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWithEnv(t *testing.T) {
	t.Parallel()
	entry := "KITT_TEST_MARKER=" + t.TempDir()
	cmd := exec.Command("sh", "-c", "setsid sleep 1000 & echo $!; wait")
	cmd.Env = append(os.Environ(), entry)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = stdout.Read(make([]byte, 16))
	require.NoError(t, err)
	found, _ := WithEnv(entry)
	require.GreaterOrEqual(t, len(found), 2)
	none, _ := WithEnv(entry + "x")
	require.Empty(t, none)
	require.True(t, Kill(func() []Process { found, _ := WithEnv(entry); return found }, time.Minute))
	require.Error(t, cmd.Wait())
	found, _ = WithEnv(entry)
	require.Empty(t, found)
}

func TestForks(t *testing.T) {
	t.Parallel()
	before := Forks()
	require.Positive(t, before)
	require.NoError(t, exec.Command("true").Run())
	require.Greater(t, Forks(), before)
	require.EqualValues(t, 17, parseForks("cpu 1 2\nprocesses 17\n"))
	for _, text := range []string{"", "processes", "processes x\n", "processes -4\n"} {
		require.EqualValues(t, -1, parseForks(text), text)
	}
}

func FuzzParseForks(f *testing.F) {
	f.Add("processes 17\n")
	f.Fuzz(func(t *testing.T, text string) {
		if parseForks(text) < -1 {
			t.Fatal(text)
		}
	})
}

func FuzzHasEntry(f *testing.F) {
	f.Add([]byte("A=1\x00B=2\x00"), "B=2")
	f.Fuzz(func(t *testing.T, text []byte, entry string) {
		if hasEntry(text, entry) && len(text) < len(entry) {
			t.Fatalf("%q in %q", entry, text)
		}
	})
}

// TestWithEnvIsSure has no more to see than a zombie and threads of the kernel.
func TestWithEnvIsSure(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("true")
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool {
		p, ok := Lookup(cmd.Process.Pid)
		_, sure := WithEnv("KITT_TEST_MARKER=nobody has it")
		return ok && p.Zombie && sure
	}, time.Minute, time.Millisecond)
	require.NoError(t, cmd.Wait())
}
