package storage

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/storage/internal/iofault"
	"github.com/kirizan/kitt-agent/storage/internal/modelcopy"
)

// leftStage makes what a kill leaves of a copy in progress.
func leftStage(t *testing.T, dir, rel string, made int) *modelDir {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, path.Dir(rel)), 0o755))
	p, err := openModelDir(dir, realDisk)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.root.Close()) })
	require.NoError(t, p.setUp())
	require.NoError(t, os.MkdirAll(p.stage(rel)+"/data", 0o700))
	require.NoError(t, os.WriteFile(p.stage(rel)+"/data/half", []byte("half"), 0o600))
	claimed, err := os.Create(p.claims.path(rel))
	require.NoError(t, err)
	require.NoError(t, writeClaim(claimed, claim{Path: rawText(rel), Done: 4, Size: 8, Made: made}))
	require.NoError(t, claimed.Close())
	return p
}

func modelOn(t *testing.T, rel string) (share string) {
	t.Helper()
	share = t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(share, rel), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(share, rel, "w"), []byte("weights"), 0o644))
	return share
}

func acquire(t *testing.T, l *Local, model string) *Lease {
	t.Helper()
	var log strings.Builder
	lease, err := l.Acquire(t.Context(), Request{Model: model, Holder: "j", Log: &log})
	require.NoError(t, err, log.String())
	return lease
}

// copyTo copies the model m of a share into a stage.
func copyTo(t *testing.T, share, stage string) *modelcopy.Result {
	t.Helper()
	copied, err := modelcopy.Copy(t.Context(), modelcopy.Options{
		Share: share, Model: "m", Stage: stage, Counters: new(modelcopy.Counters),
		Note: func(string) {}, Reserve: func(_, _ int64) error { return nil },
	}, []*opTimer{new(opTimer)})
	require.NoError(t, err)
	return copied
}

// entries lists what is in a storage directory, without .kitt.
func entries(t *testing.T, dir string) (names []string) {
	t.Helper()
	all, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range all {
		if e.Name() != ownDir {
			names = append(names, e.Name())
		}
	}
	return names
}

// TestKilledAfterTheRename is killed when the copy is published, but its stage and
// claim still exist.
func TestKilledAfterTheRename(t *testing.T) {
	t.Parallel()
	l, dir := shareOf(t, modelOn(t, "m"), "", nil)
	require.NoError(t, acquire(t, l, "m").Release())
	p := leftStage(t, dir, "m", 0)
	list, err := l.List(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 1, "it is complete")
	require.False(t, list[0].Partial)
	acquire(t, l, "m")
	require.Equal(t, []string{"m"}, entries(t, dir))
	require.NoFileExists(t, p.claims.path("m"))
}

// TestKilledBeforeTheRename is killed when the manifest is in its place but the copy
// isn't: a model that a user puts there later is not the storage's.
func TestKilledBeforeTheRename(t *testing.T) {
	t.Parallel()
	l, dir := shareOf(t, modelOn(t, "m"), "", nil)
	require.NoError(t, acquire(t, l, "m").Release())
	p := leftStage(t, dir, "m", 0)
	require.NoError(t, os.RemoveAll(p.stage("m")))
	require.NoError(t, os.Mkdir(p.stage("m"), 0o700))
	require.NoError(t, os.Rename(p.abs("m"), p.stage("m")+"/data"))
	var removed []string
	// A process that another test is just starting has a copy of the claim's lock until it
	// runs its own program.
	require.Eventually(t, func() bool {
		done, err := l.Evict(t.Context(), "")
		require.NoError(t, err)
		removed = append(removed, done.Removed...)
		return len(removed) > 0
	}, 10*time.Second, time.Millisecond)
	require.Equal(t, []string{p.stage("m")}, removed)
	require.NoFileExists(t, p.copies.manifest("m"))
}

func TestPartOfAModelThatWasKilledThenAllOfIt(t *testing.T) {
	t.Parallel()
	share := modelOn(t, "m")
	l, dir := shareOf(t, share, "", nil)
	p := leftStage(t, dir, "m/w", 1)
	acquire(t, l, "m")
	require.Equal(t, []string{"m"}, entries(t, dir))
	require.NoFileExists(t, p.claims.path("m/w"))

	// A part that is being copied blocks the model until it is done.
	require.NoError(t, os.MkdirAll(filepath.Join(share, "n"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(share, "n/w"), nil, 0o644))
	leftStage(t, dir, "n/w", 1)
	busy, err := waitLock(t.Context(), p.claims.path("n/w"), nil)
	require.NoError(t, err)
	defer busy.Close()
	_, err = l.Acquire(t.Context(), Request{Model: "n", Holder: "j"})
	require.Equal(t, ClassConflict, iofault.ClassOf(err), err)
	require.Contains(t, err.Error(), `its part "n/w" is being copied`)
}

func TestDirectoriesMadeForACopyAreRemoved(t *testing.T) {
	t.Parallel()
	share := modelOn(t, "a/b/m")
	l, dir := shareOf(t, share, "", nil)

	leftStage(t, dir, "a/b/m", 2) // interrupted and abandoned
	_, err := l.Evict(t.Context(), "a/b/m")
	require.NoError(t, err)
	require.Empty(t, entries(t, dir))

	p := leftStage(t, dir, "a/b/m", 2) // before its first byte
	require.NoError(t, os.RemoveAll(p.stage("a/b/m")))
	_, err = l.Evict(t.Context(), "")
	require.NoError(t, err)
	require.Empty(t, entries(t, dir))

	leftStage(t, dir, "a/b/m", 2) // interrupted and resumed
	require.NoError(t, acquire(t, l, "a/b/m").Release())
	_, err = l.Evict(t.Context(), "a/b/m")
	require.NoError(t, err)
	require.Empty(t, entries(t, dir))

	small, err := New(Config{Settings: Settings{Dir: dir, ShareMount: share}, KeepFree: 1 << 60})
	require.NoError(t, err)
	_, err = small.Acquire(t.Context(), Request{Model: "a/b/m", Holder: "j"}) // rejected
	require.Equal(t, ClassSpace, iofault.ClassOf(err), err)
	require.NoError(t, small.Close())
	require.Empty(t, entries(t, dir))

	// A user's own directories stay.
	require.NoError(t, os.Mkdir(filepath.Join(dir, "a"), 0o755))
	leftStage(t, dir, "a/b/m", 1)
	_, err = l.Evict(t.Context(), "")
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, entries(t, dir))
}

// TestClaimTornByAKill reads a claim that is followed by the rest of a longer one.
func TestClaimTornByAKill(t *testing.T) {
	t.Parallel()
	c, ok := parseClaim([]byte(`{"path":"m","left":1,"done":2,"size":3}456}`))
	require.True(t, ok)
	require.Equal(t, claim{Path: "m", Left: 1, Done: 2, Size: 3}, c)
	_, ok = parseClaim([]byte(`{"path":"m","le`))
	require.False(t, ok)
}

// otherBoot makes a copy look as if it was made in an earlier boot and is not known
// to be durable.
func otherBoot(t *testing.T, p *modelDir, rel string) {
	t.Helper()
	name := p.copies.manifest(rel)
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(name, []byte(strings.Replace(string(data), base.BootID(), "another", 1)), 0o644))
	if err := os.Remove(p.copies.durable(rel)); !os.IsNotExist(err) {
		require.NoError(t, err)
	}
}

func TestDamagedCopyWithAForeignFileStays(t *testing.T) {
	t.Parallel()
	l, dir := shareOf(t, modelOn(t, "m"), "", nil)
	require.NoError(t, acquire(t, l, "m").Release())
	require.NoError(t, os.WriteFile(filepath.Join(dir, "m/theirs"), []byte("notes"), 0o644))
	require.NoError(t, os.Truncate(filepath.Join(dir, "m/w"), 0))
	p, err := openModelDir(dir, realDisk)
	require.NoError(t, err)
	defer p.root.Close()
	otherBoot(t, p, "m")
	_, err = l.Acquire(t.Context(), Request{Model: "m", Holder: "j"})
	require.Equal(t, ClassDamaged, iofault.ClassOf(err), err)
	require.Contains(t, err.Error(), `"theirs" is not part of the copy`)
	require.FileExists(t, filepath.Join(dir, "m/theirs"))
}

// TestSecondCopyIsNotKnownToBeDurable removes a copy by hand and requests it again:
// the marker of the first doesn't count for the second.
func TestSecondCopyIsNotKnownToBeDurable(t *testing.T) {
	t.Parallel()
	l, dir := shareOf(t, modelOn(t, "m"), "", nil)
	require.NoError(t, acquire(t, l, "m").Release())
	p, err := openModelDir(dir, realDisk)
	require.NoError(t, err)
	defer p.root.Close()
	require.NoError(t, p.writeMarker(t.Context(), "m"))
	require.NoError(t, os.RemoveAll(p.abs("m")))
	acquire(t, l, "m")
	require.NoFileExists(t, p.copies.durable("m"), "it is written two seconds later")
}

// TestLimitCountsWhatIsCopiedAlready resumes a copy that is almost complete: it counts
// with its whole size. An abandoned copy counts with what it takes.
func TestLimitCountsWhatIsCopiedAlready(t *testing.T) {
	t.Parallel()
	l, dir := shareOf(t, modelOn(t, "m"), "", nil)
	require.NoError(t, acquire(t, l, "m").Release()) // 7 bytes
	p := leftStage(t, dir, "half", 0)                // 4 bytes
	for whole, want := range map[int64]int64{50: -39, 100: 11} {
		need := &reservation{dir: p, rel: "n", bytes: 1, whole: whole, limit: 100}
		short, err := need.shortLocked()
		require.NoError(t, err)
		require.Equal(t, want, short)
	}
}

// TestRenumberedDirectories is about a storage directory on an overlayfs with layers
// on several disks, which renumbers directories.
func TestRenumberedDirectories(t *testing.T) {
	t.Parallel()
	l, dir := shareOf(t, modelOn(t, "m"), "", nil)
	at := acquire(t, l, "m").Path
	info, err := os.Stat(at)
	require.NoError(t, err)
	p, err := openModelDir(dir, realDisk)
	require.NoError(t, err)
	defer p.root.Close()
	name := p.copies.manifest("m")
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	data = bytes.Replace(data, fmt.Appendf(nil, `"inode":%d,`, inodeOf(info)), []byte(`"inode":1,`), 1)
	require.NoError(t, os.WriteFile(name, data, 0o644))
	done, err := l.Evict(t.Context(), "m")
	require.NoError(t, err)
	require.Equal(t, []Kept{{Path: at, Reason: "in use by j"}}, done.Kept)

	// A user's model in its place is the user's.
	require.NoError(t, os.Rename(filepath.Join(at, "w"), filepath.Join(dir, "w")))
	require.NoError(t, os.WriteFile(filepath.Join(at, "w"), []byte("weights"), 0o644))
	done, err = l.Evict(t.Context(), "m")
	require.NoError(t, err)
	require.Equal(t, []Kept{{Path: at, Reason: "it was not copied by the agent"}}, done.Kept)
}

// TestKilledWhileWriting is killed while it writes a manifest or lease, and just after
// the removal of a copy, in a directory whose name is a glob pattern.
func TestKilledWhileWriting(t *testing.T) {
	t.Parallel()
	share := modelOn(t, "org/m")
	dir := filepath.Join(t.TempDir(), "[models")
	settings := Config{Settings: Settings{Dir: dir, ShareMount: share}}
	l, err := New(settings)
	require.NoError(t, err)
	require.NoError(t, acquire(t, l, "org/m").Release())
	require.NoError(t, l.Close())
	p, err := openModelDir(dir, realDisk)
	require.NoError(t, err)
	defer p.root.Close()
	key := keyOf("org/m")
	require.NoError(t, os.Rename(p.copies.manifest("org/m"), p.copies.removing("org/m")))
	require.NoError(t, os.RemoveAll(p.abs("org/m")))
	torn := []string{filepath.Join(p.copies.dir, "."+key+".jsonl123"), filepath.Join(p.leases.dir, "."+key+".holder123"), filepath.Join(dir, ownDir, "tmp/NEW")}
	for _, name := range torn {
		require.NoError(t, os.WriteFile(name, []byte("{"), 0o644))
	}

	l, err = New(settings)
	require.NoError(t, err)
	list, err := l.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, list)
	require.Empty(t, entries(t, dir), "its directories are removed as well")
	for _, name := range append(torn, p.copies.removing("org/m")) {
		require.NoFileExists(t, name)
	}
	require.NoError(t, l.Close())
}
