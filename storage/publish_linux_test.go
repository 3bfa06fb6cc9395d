package storage

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/storage/internal/iofault"
)

// TestRemovalThatFails removes a copy that cannot be renamed, since something is
// mounted there: it stays the storage's.
func TestRemovalThatFails(t *testing.T) {
	t.Parallel()
	l, dir := shareOf(t, modelOn(t, "m"), "", nil)
	at := acquire(t, l, "m")
	require.NoError(t, at.Release())
	if err := unix.Mount(at.Path, at.Path, "", unix.MS_BIND, ""); err != nil {
		t.Skip("SKIPPED: no mounts here: ", err)
	}
	_, err := l.Evict(t.Context(), "m")
	require.ErrorIs(t, err, unix.EBUSY)
	require.NoError(t, unix.Unmount(at.Path, unix.MNT_DETACH))
	done, err := l.Evict(t.Context(), "m")
	require.NoError(t, err)
	require.Equal(t, []string{at.Path}, done.Removed)
	require.Empty(t, entries(t, dir))
}

// TestCopyThatCannotBePublished distinguishes another model in its place from a
// disk that fails.
func TestCopyThatCannotBePublished(t *testing.T) {
	t.Parallel()
	p, err := openModelDir(t.TempDir(), realDisk)
	require.NoError(t, err)
	defer p.root.Close()
	require.NoError(t, p.setUp())
	copied := copyTo(t, modelOn(t, "m"), p.stage("m"))
	publish := func() error {
		return (&manifest{Version: 1, Path: "m", Boot: "b", Piece: copied.Piece}).in(p).publish(t.Context(), copied)
	}
	at := p.abs("m")
	require.NoError(t, os.Mkdir(at, 0o700))
	require.NoError(t, os.WriteFile(at+"/w", nil, 0o600))
	require.Equal(t, ClassConflict, iofault.ClassOf(publish()))
	require.NoError(t, os.RemoveAll(at))
	if err := unix.Mount(p.stage("m"), p.stage("m"), "", unix.MS_BIND, ""); err != nil {
		t.Skip("SKIPPED: no mounts here: ", err)
	}
	defer func() { require.NoError(t, unix.Unmount(p.stage("m"), unix.MNT_DETACH)) }()
	err = publish()
	require.ErrorIs(t, err, unix.EXDEV)
	require.Equal(t, ClassIO, iofault.ClassOf(err))
}
