package storage

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// leftStage makes what a kill leaves of a copy that was being made.
func leftStage(t *testing.T, dir, rel string, made int) *place {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, path.Dir(rel)), 0o755))
	p, err := openPlace(dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.root.Close()) })
	require.NoError(t, p.ready())
	require.NoError(t, os.MkdirAll(p.stage(rel)+"/data", 0o700))
	require.NoError(t, os.WriteFile(p.stage(rel)+"/data/half", []byte("half"), 0o600))
	claimed, err := os.Create(p.own("claims", keyOf(rel)))
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

// entries lists what is in a storage directory but for its own.
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

// TestKilledBehindTheRename is of a kill when the copy is in its place and its
// stage and claim are still there.
func TestKilledBehindTheRename(t *testing.T) {
	t.Parallel()
	l, dir := shareOf(t, modelOn(t, "m"), "", nil)
	require.NoError(t, acquire(t, l, "m").Release())
	p := leftStage(t, dir, "m", 0)
	list, err := l.List(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 1, "it is whole")
	require.False(t, list[0].Partial)
	acquire(t, l, "m")
	require.Equal(t, []string{"m"}, entries(t, dir))
	require.NoFileExists(t, p.own("claims", keyOf("m")))
}

// TestKilledBeforeTheRename is of a kill when the manifest is there and the copy
// is not yet: what somebody puts there later is not the storage's.
func TestKilledBeforeTheRename(t *testing.T) {
	t.Parallel()
	l, dir := shareOf(t, modelOn(t, "m"), "", nil)
	require.NoError(t, acquire(t, l, "m").Release())
	p := leftStage(t, dir, "m", 0)
	require.NoError(t, os.RemoveAll(p.stage("m")))
	require.NoError(t, os.Mkdir(p.stage("m"), 0o700))
	require.NoError(t, os.Rename(p.abs("m"), p.stage("m")+"/data"))
	done, err := l.Evict(t.Context(), "")
	require.NoError(t, err)
	require.Equal(t, []string{p.stage("m")}, done.Removed)
	require.NoFileExists(t, p.manifestPath(keyOf("m")))
}

func TestPartOfAModelThatWasKilledThenAllOfIt(t *testing.T) {
	t.Parallel()
	share := modelOn(t, "m")
	l, dir := shareOf(t, share, "", nil)
	p := leftStage(t, dir, "m/w", 1)
	acquire(t, l, "m")
	require.Equal(t, []string{"m"}, entries(t, dir))
	require.NoFileExists(t, p.own("claims", keyOf("m/w")))

	// One that is being copied is not in the way for long, but it is.
	require.NoError(t, os.MkdirAll(filepath.Join(share, "n"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(share, "n/w"), nil, 0o644))
	leftStage(t, dir, "n/w", 1)
	busy, err := waitLock(t.Context(), p.own("claims", keyOf("n/w")), nil)
	require.NoError(t, err)
	defer busy.Close()
	_, err = l.Acquire(t.Context(), Request{Model: "n", Holder: "j"})
	require.Equal(t, ClassConflict, classOf(err), err)
	require.Contains(t, err.Error(), `its part "n/w" is being copied`)
}

func TestDirectoriesThatWereMadeForACopyGo(t *testing.T) {
	t.Parallel()
	share := modelOn(t, "a/b/m")
	l, dir := shareOf(t, share, "", nil)

	leftStage(t, dir, "a/b/m", 2) // interrupted, and given up
	_, err := l.Evict(t.Context(), "a/b/m")
	require.NoError(t, err)
	require.Empty(t, entries(t, dir))

	p := leftStage(t, dir, "a/b/m", 2) // before its first byte
	require.NoError(t, os.RemoveAll(p.stage("a/b/m")))
	_, err = l.Evict(t.Context(), "")
	require.NoError(t, err)
	require.Empty(t, entries(t, dir))

	leftStage(t, dir, "a/b/m", 2) // interrupted, and gone on with
	require.NoError(t, acquire(t, l, "a/b/m").Release())
	_, err = l.Evict(t.Context(), "a/b/m")
	require.NoError(t, err)
	require.Empty(t, entries(t, dir))

	small, err := New(Config{Settings: Settings{Dir: dir, ShareMount: share}, KeepFree: 1 << 60})
	require.NoError(t, err)
	_, err = small.Acquire(t.Context(), Request{Model: "a/b/m", Holder: "j"}) // refused
	require.Equal(t, ClassSpace, classOf(err), err)
	require.NoError(t, small.Close())
	require.Empty(t, entries(t, dir))

	// Somebody's own stay.
	require.NoError(t, os.Mkdir(filepath.Join(dir, "a"), 0o755))
	leftStage(t, dir, "a/b/m", 1)
	_, err = l.Evict(t.Context(), "")
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, entries(t, dir))
}

// TestClaimTornByAKill has the rest of a longer claim behind a shorter one.
func TestClaimTornByAKill(t *testing.T) {
	t.Parallel()
	c, ok := parseClaim([]byte(`{"path":"m","left":1,"done":2,"size":3}456}`))
	require.True(t, ok)
	require.Equal(t, claim{Path: "m", Left: 1, Done: 2, Size: 3}, c)
	_, ok = parseClaim([]byte(`{"path":"m","le`))
	require.False(t, ok)
}

// otherBoot has l's copies made in another start of the machine, and not known to
// be on disk.
func otherBoot(t *testing.T, p *place, rel string) {
	t.Helper()
	name := p.manifestPath(keyOf(rel))
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(name, []byte(strings.Replace(string(data), bootID(), "another", 1)), 0o644))
	if err := os.Remove(p.syncedPath(rel)); !os.IsNotExist(err) {
		require.NoError(t, err)
	}
}

func TestDamagedCopyWithSomebodysFileStays(t *testing.T) {
	t.Parallel()
	l, dir := shareOf(t, modelOn(t, "m"), "", nil)
	require.NoError(t, acquire(t, l, "m").Release())
	require.NoError(t, os.WriteFile(filepath.Join(dir, "m/theirs"), []byte("notes"), 0o644))
	require.NoError(t, os.Truncate(filepath.Join(dir, "m/w"), 0))
	p, err := openPlace(dir)
	require.NoError(t, err)
	defer p.root.Close()
	otherBoot(t, p, "m")
	_, err = l.Acquire(t.Context(), Request{Model: "m", Holder: "j"})
	require.Equal(t, ClassDamaged, classOf(err), err)
	require.Contains(t, err.Error(), `"theirs" was put there by somebody else`)
	require.FileExists(t, filepath.Join(dir, "m/theirs"))
}

// TestCopyMadeAnewIsNotKnownToBeOnDisk removes a copy by hand and has it made
// again: what is known of the first says nothing of the second.
func TestCopyMadeAnewIsNotKnownToBeOnDisk(t *testing.T) {
	t.Parallel()
	l, dir := shareOf(t, modelOn(t, "m"), "", nil)
	require.NoError(t, acquire(t, l, "m").Release())
	p, err := openPlace(dir)
	require.NoError(t, err)
	defer p.root.Close()
	require.NoError(t, writeFile(p.syncedPath("m"), nil))
	require.NoError(t, os.RemoveAll(p.abs("m")))
	acquire(t, l, "m")
	require.NoFileExists(t, p.syncedPath("m"), "it is written two seconds later")
}

// TestLimitCountsWhatIsHereAlready goes on with an interrupted copy, of which most
// is here: it counts as a whole, and so does one that nobody goes on with.
func TestLimitCountsWhatIsHereAlready(t *testing.T) {
	t.Parallel()
	l, dir := shareOf(t, modelOn(t, "m"), "", nil)
	require.NoError(t, acquire(t, l, "m").Release()) // 7 bytes
	p := leftStage(t, dir, "half", 0)                // 4 bytes
	for whole, want := range map[int64]int64{50: -39, 100: 11} {
		short, err := p.shortLocked(spaceNeed{rel: "n", bytes: 1, whole: whole, limit: 100})
		require.NoError(t, err)
		require.Equal(t, want, short)
	}
}

// TestSpaceOfPreallocatedFiles looks at what a running copy tells others that it
// still takes: not the space of a file that is reserved on disk already.
func TestSpaceOfPreallocatedFiles(t *testing.T) {
	t.Parallel()
	share := t.TempDir()
	stage, _, err := copyWhile(t, share, func(int) {})
	require.NoError(t, err)
	const whole = 3<<20 + 10
	require.NoError(t, os.Truncate(filepath.Join(stage, "data/b"), 0))
	require.EqualValues(t, whole, rerun(t, share, stage).count.placed.Load())
	require.NoError(t, os.RemoveAll(stage))
	c := rerun(t, share, stage)
	require.EqualValues(t, whole, c.count.placed.Load())
	for _, f := range c.files {
		require.Equal(t, f.large(), f.placed, f.path)
	}
}

// TestDirectoriesThatAreNumberedAnew is of a storage directory on an overlayfs
// whose layers are on several disks.
func TestDirectoriesThatAreNumberedAnew(t *testing.T) {
	t.Parallel()
	l, dir := shareOf(t, modelOn(t, "m"), "", nil)
	at := acquire(t, l, "m").Path
	info, err := os.Stat(at)
	require.NoError(t, err)
	p, err := openPlace(dir)
	require.NoError(t, err)
	defer p.root.Close()
	name := p.manifestPath(keyOf("m"))
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	data = bytes.Replace(data, fmt.Appendf(nil, `"inode":%d,`, metaOf(info).ino), []byte(`"inode":1,`), 1)
	require.NoError(t, os.WriteFile(name, data, 0o644))
	done, err := l.Evict(t.Context(), "m")
	require.NoError(t, err)
	require.Equal(t, []Kept{{Path: at, Reason: "in use by j"}}, done.Kept)

	// Another's model in its place is another's.
	require.NoError(t, os.Rename(filepath.Join(at, "w"), filepath.Join(dir, "w")))
	require.NoError(t, os.WriteFile(filepath.Join(at, "w"), []byte("weights"), 0o644))
	done, err = l.Evict(t.Context(), "m")
	require.NoError(t, err)
	require.Equal(t, []Kept{{Path: at, Reason: "it was not copied by the agent"}}, done.Kept)
}

// TestKilledAsItWrote is of kills in the middle of a manifest or lease, and behind
// the removal of a copy, in a directory whose name is a pattern.
func TestKilledAsItWrote(t *testing.T) {
	t.Parallel()
	share := modelOn(t, "org/m")
	dir := filepath.Join(t.TempDir(), "[models")
	settings := Config{Settings: Settings{Dir: dir, ShareMount: share}}
	l, err := New(settings)
	require.NoError(t, err)
	require.NoError(t, acquire(t, l, "org/m").Release())
	require.NoError(t, l.Close())
	p, err := openPlace(dir)
	require.NoError(t, err)
	defer p.root.Close()
	key := keyOf("org/m")
	require.NoError(t, os.Rename(p.manifestPath(key), p.own("copies", key+".gone")))
	require.NoError(t, os.RemoveAll(p.abs("org/m")))
	torn := []string{p.own("copies", "."+key+".jsonl123"), p.own("leases", "."+key+".holder123")}
	for _, name := range torn {
		require.NoError(t, os.WriteFile(name, []byte("{"), 0o644))
	}

	l, err = New(settings)
	require.NoError(t, err)
	list, err := l.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, list)
	require.Empty(t, entries(t, dir), "its directories go as well")
	for _, name := range append(torn, p.own("copies", key+".gone")) {
		require.NoFileExists(t, name)
	}
	require.NoError(t, l.Close())
}
