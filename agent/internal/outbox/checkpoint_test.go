package outbox

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
)

func TestCheckpoint(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), jobs.DeliveryFile)
	d, err := openCheckpoint(path)
	require.NoError(t, err)
	require.NoError(t, d.set(func(c *checkpoint) { c.Next, c.Lines, c.Rejected = 7, 5, string(make([]byte, 5000)) }))
	require.NoError(t, d.sync())
	require.NoError(t, d.Close())
	require.NoError(t, d.Close())
	l := peekCheckpoint(path)
	require.EqualValues(t, 7, l.Next)
	require.EqualValues(t, 5, l.Lines)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.LessOrEqual(t, info.Size(), int64(2*checkpointSize))
}

// TestAPipeHoldsNothingUp has named pipes in place of a job's files. To open one
// for reading waits for a writer.
func TestAPipeHoldsNothingUp(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, unix.Mkfifo(path, 0o600))
	require.Zero(t, peekCheckpoint(path))
	_, err := openResultFile(path)
	require.ErrorContains(t, err, "not a regular file")
	d, err := openCheckpoint(path)
	require.NoError(t, err)
	require.Error(t, d.set(func(c *checkpoint) { c.Next = 7 }))
	require.EqualValues(t, 7, d.get().Next, "kept in memory")
	require.NoError(t, d.Close())
}

// FuzzCheckpoint reads whatever may be in the file: it never fails, and never
// yields a place before the first record.
func FuzzCheckpoint(f *testing.F) {
	f.Add([]byte(`{"version":1,"next":3,"lines":2}`))
	f.Add([]byte("\x00\x00\x00"))
	f.Add([]byte(`{"next":-1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), jobs.DeliveryFile)
		require.NoError(t, os.WriteFile(path, text, 0o600))
		l := peekCheckpoint(path)
		require.GreaterOrEqual(t, l.Next, int64(0))
		require.GreaterOrEqual(t, l.Lines, int64(0))
	})
}
