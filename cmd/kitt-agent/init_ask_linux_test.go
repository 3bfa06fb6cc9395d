package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// newTerminal returns the two ends of a pseudo-terminal (pts(4)): what is
// written to keyboard is read from screen.
func newTerminal(t *testing.T) (keyboard, screen *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no pseudo-terminal: ", err)
	}
	t.Cleanup(func() { _ = keyboard.Close() })
	require.NoError(t, unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	screen, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = screen.Close() })
	return keyboard, screen
}

// At a terminal the authority is trusted after a yes, and after nothing else.
func TestInitAsks(t *testing.T) {
	t.Parallel()
	ca, _ := newCA(t)
	server := mutual(t, ca, true)
	for answer, trusted := range map[string]bool{"y\n": true, "YES\n": true, "n\n": false, "\n": false, "x\n": false} {
		m := newMachine(t)
		keyboard, screen := newTerminal(t)
		m.in = screen
		_, err := keyboard.WriteString(answer)
		require.NoError(t, err)
		got := m.run("init", "--server", server, "--new-token")
		require.Contains(t, got.err, "Trust it from now on? [y/N]")
		if trusted {
			require.Equal(t, exitOK, got.code, got.err)
			require.Contains(t, m.read(), "ca: "+filepath.Join(m.home, "certs", "ca.pem"))
			continue
		}
		require.Equal(t, exitFailure, got.code)
		entries, err := os.ReadDir(m.home)
		require.NoError(t, err)
		require.Empty(t, entries, "nothing was written")
	}
}
