package storage

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A slowDisk blocks its operations on paths that contain slow, from block until
// resume. It signals on reached when one of them blocks.
type slowDisk struct {
	slow    string
	reached chan string
	resume  chan struct{}
}

// slowDown makes the disk of l slow for paths that contain slow.
func slowDown(l *Local, slow string) *slowDisk {
	s := &slowDisk{slow: slow, reached: make(chan string, 100), resume: make(chan struct{})}
	l.dirs.disk = disk{
		removeAll:      func(path string) error { s.wait(path); return os.RemoveAll(path) },
		sync:           func(f *os.File) error { s.wait(contentOf(f)); return f.Sync() },
		syncFileSystem: func(f *os.File) error { s.wait(f.Name()); return syncFileSystem(f) },
	}
	return s
}

func (s *slowDisk) wait(text string) {
	if strings.Contains(text, s.slow) {
		if _, err := os.Lstat(text); strings.HasPrefix(text, "/") && err != nil {
			return // nothing to remove
		}
		s.reached <- text
		<-s.resume
	}
}

// contentOf returns what is in a small file, by which a test recognizes it.
func contentOf(f *os.File) string {
	data := make([]byte, 4096)
	n, _ := f.ReadAt(data, 0) // usually ends early
	return strings.ReplaceAll(string(data[:n]), "/", "|")
}

// requireUnlocked requires that neither a goroutine nor a process holds the lock.
func requireUnlocked(t *testing.T, d *modelDir) {
	t.Helper()
	select {
	case d.locking <- struct{}{}:
		<-d.locking
	default:
		t.Fatal("a goroutine of this process holds the lock")
	}
	f, err := os.OpenFile(filepath.Join(d.dir, ownDir, "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	require.NoError(t, err)
	free, err := tryLock(f)
	require.NoError(t, err)
	require.True(t, free, "the lock file is locked")
	require.NoError(t, f.Close())
}

// TestNoLockOnASlowDisk blocks each slow operation in turn. Meanwhile other jobs
// can lock the directory, take leases and release them.
func TestNoLockOnASlowDisk(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, slow string
		do         func(t *testing.T, l *Local, dir string) error
	}{
		{"deletion of a copy", gonePrefix, func(t *testing.T, l *Local, _ string) error {
			_, err := l.Evict(t.Context(), "m")
			return err
		}},
		{"deletion of what an earlier removal left", gonePrefix, func(t *testing.T, l *Local, dir string) error {
			left := filepath.Join(dir, gonePrefix+keyOf("m"))
			if err := os.MkdirAll(filepath.Join(left, "d"), 0o755); err != nil {
				return err
			}
			_, err := l.Evict(t.Context(), "m")
			return err
		}},
		{"deletion of a published copy's stage", partPrefix, func(t *testing.T, l *Local, _ string) error {
			_, err := l.Acquire(t.Context(), Request{Model: "new", Holder: "j"})
			return err
		}},
		{"deletion of an abandoned stage", partPrefix, func(t *testing.T, l *Local, dir string) error {
			leftStage(t, dir, "m", 0)
			_, err := l.Acquire(t.Context(), Request{Model: "m", Holder: "j"})
			return err
		}},
		{"deletion of an abandoned copy", partPrefix, func(t *testing.T, l *Local, dir string) error {
			leftStage(t, dir, "half", 0)
			_, err := l.Evict(t.Context(), "")
			return err
		}},
		{"fsync of a lease", `"holder":"j"`, func(t *testing.T, l *Local, _ string) error {
			_, err := l.Acquire(t.Context(), Request{Model: "m", Holder: "j"})
			return err
		}},
		{"fsync of a manifest", `"version":1`, func(t *testing.T, l *Local, _ string) error {
			_, err := l.Acquire(t.Context(), Request{Model: "new", Holder: "j"})
			return err
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			share := modelOn(t, "m")
			for _, name := range []string{"new", "other"} {
				require.NoError(t, os.CopyFS(filepath.Join(share, name), os.DirFS(filepath.Join(share, "m"))))
			}
			setUp, dir := shareOf(t, share, "", nil)
			for _, name := range []string{"m", "other"} {
				require.NoError(t, acquire(t, setUp, name).Release())
			}
			l, err := New(Config{Settings: setUp.Settings()})
			require.NoError(t, err)
			defer func() { require.NoError(t, l.Close()) }()
			disk := slowDown(l, tt.slow)
			ended := make(chan error)
			go func() { ended <- tt.do(t, l, dir) }()
			<-disk.reached
			requireUnlocked(t, l.dirs.get(dir))
			other, err := setUp.Acquire(t.Context(), Request{Model: "other", Holder: "k"})
			require.NoError(t, err)
			require.NoError(t, other.Release())
			close(disk.resume)
			require.NoError(t, <-ended)
			requireUnlocked(t, l.dirs.get(dir))
		})
	}
}

// TestSyncWithoutTheLock is of a machine without a boot ID, where each copy is
// synced before it is published.
func TestSyncWithoutTheLock(t *testing.T) {
	t.Parallel()
	l, _ := shareOf(t, modelOn(t, "m"), "", nil)
	disk := slowDown(l, "/data")
	d, err := openModelDir(t.TempDir(), l.dirs.disk)
	require.NoError(t, err)
	defer d.root.Close()
	require.NoError(t, d.setUp())
	copied := copyTo(t, l.Settings().ShareMount, d.stage("m"))
	ended := make(chan error)
	go func() {
		ended <- (&manifest{Version: 1, Path: "m", Piece: copied.Piece}).in(d).publish(t.Context(), copied)
	}()
	<-disk.reached
	requireUnlocked(t, d)
	close(disk.resume)
	require.NoError(t, <-ended)
	m, err := d.copies.at("m")
	require.NoError(t, err)
	require.NotNil(t, m)
}

// TestRemovalThatOutlastsItsCaller has the caller leave during a deletion: it is
// completed anyway.
func TestRemovalThatOutlastsItsCaller(t *testing.T) {
	t.Parallel()
	l, dir := shareOf(t, modelOn(t, "org/m"), "", nil)
	disk := slowDown(l, gonePrefix)
	require.NoError(t, acquire(t, l, "org/m").Release())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error)
	go func() {
		_, err := l.Evict(ctx, "org/m")
		ended <- err
	}()
	<-disk.reached
	cancel()
	close(disk.resume)
	require.NoError(t, <-ended)
	require.Empty(t, entries(t, dir), "the directories made for it are removed as well")
	require.NoFileExists(t, l.dirs.get(dir).copies.removing("org/m"))
}

// TestTwoRemovalsOfOneModel copies a model again while its first copy is being
// deleted, and removes it again.
func TestTwoRemovalsOfOneModel(t *testing.T) {
	t.Parallel()
	l, dir := shareOf(t, modelOn(t, "m"), "", nil)
	disk := slowDown(l, gonePrefix)
	require.NoError(t, acquire(t, l, "m").Release())
	ended := make(chan error)
	evict := func() {
		_, err := l.Evict(t.Context(), "m")
		ended <- err
	}
	go evict()
	<-disk.reached
	require.NoError(t, acquire(t, l, "m").Release())
	go evict()
	<-disk.reached // it waits for the first one's files to be deleted
	close(disk.resume)
	require.NoError(t, <-ended)
	require.NoError(t, <-ended)
	require.Empty(t, entries(t, dir))
	require.NoFileExists(t, l.dirs.get(dir).copies.removing("m"))
}

// TestCancelledCheckLeavesNoLock checks a model that is not a copy for a request
// that has been cancelled.
func TestCancelledCheckLeavesNoLock(t *testing.T) {
	t.Parallel()
	l, dir := shareOf(t, modelOn(t, "m"), "", nil)
	acquire(t, l, "m")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "hand"), 0o755))
	v, err := l.view(t.Context(), false)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a := acquisition{l: l, view: v}
	require.ErrorIs(t, a.checkForeign(ctx, "hand"), context.Canceled)
	requireUnlocked(t, v.dir)
	require.NoError(t, a.checkForeign(t.Context(), "hand"))
	requireUnlocked(t, v.dir)
}

// TestFilesBeingWrittenStay has another agent start while this one writes a file.
// It removes only what no process writes any more.
func TestFilesBeingWrittenStay(t *testing.T) {
	t.Parallel()
	l, dir := shareOf(t, modelOn(t, "m"), "", nil)
	acquire(t, l, "m")
	d := l.dirs.get(dir)
	text := func(w io.Writer) error { _, err := io.WriteString(w, "text"); return err }
	writing, err := d.tmp.create(t.Context(), text)
	require.NoError(t, err)
	torn := filepath.Join(dir, ownDir, "tmp", "TORN")
	require.NoError(t, os.WriteFile(torn, nil, 0o644))

	second, err := New(Config{Settings: l.Settings()})
	require.NoError(t, err)
	_, err = second.List(t.Context())
	require.NoError(t, err)
	require.NoError(t, second.Close())
	require.NoFileExists(t, torn)
	final := filepath.Join(dir, "final")
	require.NoError(t, writing.install(final))
	require.NoError(t, writing.discard(), "it is installed")
	got, err := os.ReadFile(final)
	require.NoError(t, err)
	require.Equal(t, "text", string(got))

	discarded, err := d.tmp.create(t.Context(), text)
	require.NoError(t, err)
	require.NoError(t, discarded.discard())
	left, err := os.ReadDir(filepath.Join(dir, ownDir, "tmp"))
	require.NoError(t, err)
	require.Empty(t, left)
}

// TestLockOfARemovedFile expects that a lock on a file counts only while the file
// has its name: another process may have locked the next file of that name.
func TestLockOfARemovedFile(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "claim")
	first, err := waitLock(t.Context(), name, nil)
	require.NoError(t, err)
	defer first.Close()
	require.True(t, isNamed(first, name))
	require.NoError(t, os.Remove(name))
	require.False(t, isNamed(first, name))
	second, err := waitLock(t.Context(), name, nil)
	require.NoError(t, err)
	defer second.Close()
	require.False(t, isNamed(first, name))
	require.True(t, isNamed(second, name))
}
