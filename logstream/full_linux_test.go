package logstream

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestAFullDiskIsSurvivedAndSaid fills a small file system while a log is
// written, and makes room again.
func TestAFullDiskIsSurvivedAndSaid(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		if os.Geteuid() == 0 && os.Getenv("CI") != "" {
			require.NoError(t, err, "CI runs as root and can mount")
		}
		t.Skip("no file system of its own for the test: ", err)
	}
	defer func() { require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) }()
	ballast := filepath.Join(dir, "ballast")
	require.NoError(t, os.WriteFile(ballast, make([]byte, 64<<10), 0o600))
	l, err := Open(filepath.Join(dir, "log"), Options{})
	require.NoError(t, err)
	defer l.Close()

	var at int64
	add := func(i int) {
		line := fmt.Sprintf("line %d %s\n", i, strings.Repeat("x", 100))
		l.Append([]byte(line), time.Time{}, Position{Byte: at})
		at += int64(len(line))
	}
	const total = 3000
	for i := range total {
		add(i)
	}
	stored := int(l.Len())
	require.Less(t, stored, total)
	require.NoError(t, os.Remove(ballast))
	add(total)
	records := all(t, l)
	require.Len(t, records, stored+2)
	require.Equal(t, Gap, records[stored].Kind)
	require.Contains(t, records[stored].Text, fmt.Sprintf("%d lines are missing here", total-stored))
	require.Contains(t, records[stored].Text, "no space left on device")
	require.True(t, strings.HasPrefix(records[stored+1].Text, fmt.Sprintf("line %d ", total)))
	require.Equal(t, at, l.Position().Byte)
}
