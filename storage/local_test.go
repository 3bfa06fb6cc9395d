package storage_test

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/internal/base/basetest"
	"github.com/kirizan/kitt-agent/storage"
)

func classOf(err error) string {
	if e, ok := errors.AsType[*storage.Error](err); ok {
		return e.Class
	}
	return ""
}

func model(files ...string) map[string]string {
	all := map[string]string{
		"config.json":                      `{"architectures":["X"]}`,
		"model-00001-of-00002.safetensors": noise(300_000, 1),
		"model-00002-of-00002.safetensors": noise(1_200_000, 2),
		"sub/tokenizer.json":               "{}",
		"empty":                            "",
	}
	for _, f := range files {
		all[f] = noise(1000, 7)
	}
	return all
}

func TestCopiesTheModelUnderItsPathOnTheShare(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	write(t, filepath.Join(b.share, "teamB/Model"), model())
	write(t, filepath.Join(b.share, "teamC/Model"), model("other"))
	var log basetest.Buffer
	var last storage.Progress
	lease, err := b.Acquire(t.Context(), storage.Request{Model: "teamB/Model", Holder: "job1", Log: &log,
		Progress: func(p storage.Progress) { last = p }})
	require.NoError(t, err, log.String())
	require.Equal(t, storage.OriginCopied, lease.Origin)
	require.Equal(t, filepath.Join(b.dir, "teamB/Model"), lease.Path)
	require.Equal(t, snapshot(t, filepath.Join(b.share, "teamB/Model")), snapshot(t, lease.Path))
	require.Equal(t, last.BytesTotal, last.BytesDone)
	require.Equal(t, 5, last.FilesDone)
	require.Contains(t, log.String(), "copied teamB/Model: 1.4 MiB in ")
	require.Equal(t, []string{"Model"}, names(t, filepath.Join(b.dir, "teamB")))

	other, err := b.Acquire(t.Context(), storage.Request{Model: filepath.Join(b.share, "teamC/Model"), Holder: "job2"})
	require.NoError(t, err)
	require.Equal(t, filepath.Join(b.dir, "teamC/Model"), other.Path)
	require.FileExists(t, filepath.Join(other.Path, "other"))

	again, err := b.Acquire(t.Context(), storage.Request{Model: filepath.Join(b.dir, "teamB/Model"), Holder: "job3"})
	require.NoError(t, err)
	require.Equal(t, storage.OriginLocal, again.Origin)
	require.Equal(t, lease.Path, again.Path)
}

func TestResolveRules(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	elsewhere := t.TempDir()
	write(t, b.share, map[string]string{
		"org/Shared/weights":    "1",
		"org/deep/Only/weights": "2",
		"a/Twice/weights":       "3",
		"b/Twice/weights":       "4",
		"single.gguf":           "5",
		"Model/weights":         "6",
	})
	write(t, b.dir, map[string]string{"Hand/weights": "7"})
	write(t, elsewhere, map[string]string{"Placed/weights": "8", "Model/weights": "not the share's"})
	require.NoError(t, os.Symlink(filepath.Join(elsewhere, "Placed"), filepath.Join(elsewhere, "link")))

	called := map[string]string{ // what results call a model that was requested by an absolute path
		"absolute in the storage directory": "Hand", "as the share has it": "Hand", "another machine's path": "org/Shared",
	}
	for _, tt := range []struct{ name, model, path, origin, class string }{
		{"in the storage directory", "Hand", "DIR/Hand", storage.OriginLocal, ""},
		{"absolute in the storage directory", "DIR/Hand", "DIR/Hand", storage.OriginLocal, ""},
		{"as the share has it", "SHARE/Hand", "DIR/Hand", storage.OriginLocal, ""},
		{"on the share", "org/Shared", "DIR/org/Shared", storage.OriginCopied, ""},
		{"another machine's path", "/srv/models/org/Shared", "DIR/org/Shared", storage.OriginLocal, ""},
		{"searched by name", "Only", "DIR/org/deep/Only", storage.OriginCopied, ""},
		{"two of that name", "/srv/Twice", "", "", storage.ClassAmbiguous},
		{"one file", "single.gguf", "DIR/single.gguf", storage.OriginCopied, ""},
		{"no such file", "absent.gguf", "", "", storage.ClassNotFound},
		{"elsewhere", "ELSE/Placed", "ELSE/Placed", storage.OriginInPlace, ""},
		{"elsewhere through a link", "ELSE/link", "ELSE/Placed", storage.OriginInPlace, ""},
		{"elsewhere, and a namesake on the share", "ELSE/Model", "ELSE/Model", storage.OriginInPlace, ""},
		{"identifier with a tag", "qwen2.5:7b", "qwen2.5:7b", storage.OriginIdentifier, ""},
		{"identifier with an organisation", "other/Shared", "other/Shared", storage.OriginIdentifier, ""},
		{"a path that is nowhere", "/nowhere/at/all", "", "", storage.ClassNotFound},
		{"not there on the share", "SHARE/teamC/Shared", "", "", storage.ClassNotFound},
		{"empty", "", "", "", storage.ClassInvalid},
		{"dot", ".", "", "", storage.ClassInvalid},
		{"root", "/", "", "", storage.ClassInvalid},
		{"upwards", "../x", "", "", storage.ClassEscape},
		{"upwards inside", "SHARE/../../etc/passwd", "", "", storage.ClassEscape},
		{"cleanup word", "__cleanup__", "", "", storage.ClassInvalid},
		{"all of the share", "SHARE", "", "", storage.ClassInvalid},
		{"all of the storage", "DIR", "", "", storage.ClassInvalid},
		{"above the storage", "DIR/..", "", "", storage.ClassEscape},
		{"the storage's own", "DIR/.kitt/copies", "", "", storage.ClassInvalid},
		{"a flag", "--privileged", "", "", storage.ClassNotFound},
	} {
		t.Run(tt.name, func(t *testing.T) {
			place := strings.NewReplacer("DIR", b.dir, "SHARE", b.share, "ELSE", elsewhere)
			lease, err := b.Acquire(t.Context(), storage.Request{Model: place.Replace(tt.model), Holder: tt.name})
			if tt.class != "" {
				require.Error(t, err)
				require.Equal(t, tt.class, classOf(err), err)
				require.Equal(t, tt.class == storage.ClassNotFound, errors.Is(err, storage.ErrNotFound))
				return
			}
			require.NoError(t, err)
			require.Equal(t, place.Replace(tt.path), lease.Path)
			require.Equal(t, tt.origin, lease.Origin)
			require.Equal(t, cmp.Or(called[tt.name], place.Replace(tt.model)), lease.Name)
		})
	}
}

func TestOneCopyForMany(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *storage.Config) { c.AutoCleanup = true })
	write(t, filepath.Join(b.share, "m"), model())
	leases := make([]*storage.Lease, 8)
	errs := make([]error, len(leases))
	var jobs sync.WaitGroup
	for i := range leases {
		jobs.Go(func() {
			leases[i], errs[i] = b.Acquire(t.Context(), storage.Request{Model: "m", Holder: string(rune('a' + i))})
		})
	}
	jobs.Wait()
	for i, lease := range leases {
		require.NoError(t, errs[i])
		require.DirExists(t, lease.Path)
		if i < len(leases)-1 {
			require.NoError(t, lease.Release())
			require.NoError(t, lease.Release(), "twice")
		}
	}
	kept, err := b.Evict(t.Context(), "")
	require.NoError(t, err)
	require.Equal(t, storage.Eviction{Kept: []storage.Kept{{Path: filepath.Join(b.dir, "m"), Reason: "in use by h"}}}, kept)
	require.NoError(t, leases[7].Release())
	require.Empty(t, names(t, b.dir), "the copy is removed after the last lease")
}

func TestLeaseSurvivesARestart(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	write(t, filepath.Join(b.share, "m"), model())
	_, err := b.Acquire(t.Context(), storage.Request{Model: "m", Holder: "job"})
	require.NoError(t, err)
	require.NoError(t, b.Close())

	next := open(t, storage.Config{Settings: storage.Settings{Dir: b.dir, ShareMount: b.share, AutoCleanup: true}})
	done, err := next.Evict(t.Context(), "m")
	require.NoError(t, err)
	require.Empty(t, done.Removed)
	again, err := next.Acquire(t.Context(), storage.Request{Model: "m", Holder: "job"})
	require.NoError(t, err)
	require.NoError(t, again.Release())
	require.NoDirExists(t, again.Path)

	_, err = next.Acquire(t.Context(), storage.Request{Model: "m", Holder: "lost"})
	require.NoError(t, err)
	ended, err := next.ReleaseExcept(t.Context(), func(holder string) bool { return holder != "lost" })
	require.NoError(t, err)
	require.Equal(t, []string{"lost"}, ended)
	require.NoDirExists(t, again.Path)
}

func TestWaitingJobKeepsTheCopy(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *storage.Config) { c.AutoCleanup = true })
	write(t, filepath.Join(b.share, "org/m"), model())
	for _, planned := range []string{"org/m", filepath.Join(b.share, "org/m"), "/other/org/m"} {
		lease, err := b.Acquire(t.Context(), storage.Request{Model: "org/m", Holder: "job"})
		require.NoError(t, err)
		b.Plan([]string{planned})
		require.NoError(t, lease.Release())
		require.DirExists(t, lease.Path, planned)
	}
	lease, err := b.Acquire(t.Context(), storage.Request{Model: "org/m", Holder: "job"})
	require.NoError(t, err)
	b.Plan(nil)
	require.NoError(t, lease.Release())
	require.NoDirExists(t, lease.Path)
	require.Empty(t, names(t, b.dir), "the directories made for it are removed as well")
}

func TestNothingOfOthersIsEverRemoved(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *storage.Config) { c.AutoCleanup = true })
	write(t, b.dir, map[string]string{"Hand/weights": "mine", ".hidden": "mine", "loose.gguf": "mine"})
	write(t, filepath.Join(b.share, "m"), model())
	lease, err := b.Acquire(t.Context(), storage.Request{Model: "m", Holder: "j"})
	require.NoError(t, err)
	write(t, lease.Path, map[string]string{"added": "by hand"})
	require.NoError(t, lease.Release())
	before := snapshot(t, lease.Path)
	for _, name := range []string{"", ".", "/", "..", "__cleanup__", "Hand", b.dir, b.dir + "/", b.dir + "/Hand", "m",
		"~", "./", "//", "Hand/..", "m/../Hand", ".kitt", ".hidden", b.share, b.share + "/m", "\x00", "Hand/weights"} {
		hand, err := b.Acquire(t.Context(), storage.Request{Model: name, Holder: "x"})
		if err == nil {
			require.NoError(t, hand.Release())
		}
		done, err := b.Evict(t.Context(), name)
		if err != nil {
			require.NotEmpty(t, classOf(err), "%q: %v", name, err)
		}
		require.Empty(t, done.Removed, name)
	}
	for _, file := range []string{"Hand/weights", ".hidden", "loose.gguf", "m/added", "m/config.json"} {
		require.FileExists(t, filepath.Join(b.dir, file))
	}
	require.Equal(t, before, snapshot(t, lease.Path))
	done, err := b.Evict(t.Context(), "__cleanup__")
	require.NoError(t, err)
	require.Len(t, done.Kept, 3)
}

func TestSettingsChangeForTheNextJob(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	write(t, filepath.Join(b.share, "m"), model())
	old, err := b.Acquire(t.Context(), storage.Request{Model: "m", Holder: "old"})
	require.NoError(t, err)

	home := t.TempDir()
	l := open(t, storage.Config{Home: home, Settings: storage.Settings{Dir: b.dir, ShareMount: b.share}})
	require.NoError(t, l.Configure(storage.Settings{Dir: "~/next", ShareMount: b.share, AutoCleanup: true}))
	next, err := l.Acquire(t.Context(), storage.Request{Model: "m", Holder: "next"})
	require.NoError(t, err)
	require.Equal(t, filepath.Join(home, "next/m"), next.Path)
	require.DirExists(t, old.Path)
	for _, bad := range []storage.Settings{
		{Dir: "relative"}, {Dir: "/"}, {Dir: b.share, ShareMount: b.share}, {Dir: b.share + "/x", ShareMount: b.share},
		{ShareMount: "x"}, {ShareSource: "-o remount"}, {ShareSource: "nas:/x\n"},
	} {
		require.Equal(t, storage.ClassSettings, classOf(l.Configure(bad)), bad)
	}
	require.NoError(t, next.Release())
	require.NoDirExists(t, next.Path)
}

func TestStorageDirectoryThatIsReplaced(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	write(t, filepath.Join(b.share, "m"), model())
	lease, err := b.Acquire(t.Context(), storage.Request{Model: "m", Holder: "old"})
	require.NoError(t, err)
	require.NoError(t, os.RemoveAll(b.dir))
	list, err := b.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, list)
	_, err = b.Usage(t.Context())
	require.NoError(t, err)
	require.DirExists(t, b.get(t, "m"))
	require.NoError(t, lease.Release())
	require.DirExists(t, lease.Path, "the other job's copy stays")

	// As when a disk is mounted over it.
	other := t.TempDir()
	require.NoError(t, os.Rename(b.dir, filepath.Join(other, "under")))
	require.NoError(t, os.Mkdir(b.dir, 0o755))
	require.DirExists(t, b.get(t, "m"))
}

func TestLinksElsewhereThatLeadHere(t *testing.T) {
	t.Parallel()
	realShare, realDir, links := t.TempDir(), t.TempDir(), t.TempDir()
	b := newBench(t, func(c *storage.Config) { c.ShareMount, c.Dir = links+"/share", links+"/models" })
	link(t, realShare, b.share)
	link(t, realDir, b.dir)
	write(t, filepath.Join(realShare, "org/m"), model())
	write(t, filepath.Join(realShare, "org/n"), model())
	link(t, filepath.Join(realShare, "org/m/config.json"), filepath.Join(realShare, "org/n/absolute"))
	link(t, b.share+"/org/m", links+"/onshare")
	link(t, b.dir+"/org/m", links+"/copied")

	for _, model := range []string{links + "/onshare", links + "/copied", realShare + "/org/m", realDir + "/org/m", realShare + "/org/n"} {
		lease, err := b.Acquire(t.Context(), storage.Request{Model: model, Holder: "j"})
		require.NoError(t, err, model)
		require.Equal(t, filepath.Join(realDir, "org", filepath.Base(lease.Path)), lease.Path, "never the share itself")
		done, err := b.Evict(t.Context(), "")
		require.NoError(t, err)
		require.NotContains(t, done.Removed, lease.Path, model)
		require.NoError(t, lease.Release())
	}
	for _, top := range []string{realShare, realDir, filepath.Dir(realDir), links} {
		_, err := b.Acquire(t.Context(), storage.Request{Model: top, Holder: "j"})
		require.Equal(t, storage.ClassInvalid, classOf(err), "%s: %v", top, err)
	}
}

func TestCancelledCopyLeavesNothingVisible(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	write(t, filepath.Join(b.share, "m"), map[string]string{"w": noise(32<<20, 3)})
	ctx, cancel := context.WithCancel(t.Context())
	_, err := b.Acquire(ctx, storage.Request{Model: "m", Holder: "j", Log: writerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil })})
	cancel()
	if err != nil {
		require.ErrorIs(t, err, context.Canceled)
		require.NoFileExists(t, filepath.Join(b.dir, "m"))
	}
	lease, err := b.Acquire(t.Context(), storage.Request{Model: "m", Holder: "j"})
	require.NoError(t, err)
	require.Equal(t, snapshot(t, filepath.Join(b.share, "m")), snapshot(t, lease.Path))
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestListVerifyPullUsage(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *storage.Config) { c.AutoCleanup = true; c.ShareSource = "nas:/models" })
	u, err := b.Usage(t.Context())
	require.NoError(t, err)
	require.Positive(t, u.FreeBytes)
	require.Positive(t, u.UsedBytes)
	write(t, filepath.Join(b.share, "m"), model())
	path, origin, err := b.Pull(t.Context(), storage.Request{Model: "m", Holder: "operator"})
	require.NoError(t, err)
	require.Equal(t, storage.OriginCopied, origin)
	require.DirExists(t, path)
	list, err := b.List(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, "nas:/models", list[0].Source)
	require.Equal(t, 5, list[0].Files)
	require.WithinDuration(t, time.Now(), list[0].LastUsed, time.Minute)
	u, err = b.Usage(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, u.ModelCount)

	v, err := b.Verify(t.Context(), "m", nil)
	require.NoError(t, err)
	require.Empty(t, v.Damaged)
	file := filepath.Join(path, "config.json")
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, []byte(strings.Repeat("x", int(info.Size()))), 0o644))
	require.NoError(t, os.Chtimes(file, info.ModTime(), info.ModTime()))
	v, err = b.Verify(t.Context(), "m", nil)
	require.NoError(t, err)
	require.Equal(t, []string{"config.json"}, v.Damaged)
	_, err = b.Verify(t.Context(), "absent", nil)
	require.ErrorIs(t, err, storage.ErrNotFound)
}
