package storage_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/internal/base/basetest"
	"github.com/kirizan/kitt-agent/storage"
)

// huggingFace makes a cache as huggingface_hub does: a snapshot's files are links to
// blobs, which are named by their hash.
func huggingFace(t testing.TB, hub string) (snapshot string) {
	t.Helper()
	repo := filepath.Join(hub, "models--org--m")
	snapshot = filepath.Join(repo, "snapshots/5206a32e0bd3067aef1ce90f5528ade7d866253f")
	write(t, repo, map[string]string{
		"refs/main": filepath.Base(snapshot), "blobs/c0": `{"architectures":["X"]}`, "blobs/w1": noise(3<<20, 1), "blobs/w2": noise(100, 2),
		"blobs/ix": index("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"), "blobs/g1": "one", "blobs/g2": "two",
	})
	for name, blob := range map[string]string{
		"config.json": "c0", "model-00001-of-00002.safetensors": "w1", "model-00002-of-00002.safetensors": "w2", "model.safetensors.index.json": "ix",
		"sub/again.bin": "w1",
	} {
		up := strings.Repeat("../", strings.Count(name, "/")+2)
		link(t, up+"blobs/"+blob, filepath.Join(snapshot, name))
	}
	link(t, "../../../blobs/g1", filepath.Join(snapshot, "gguf/q-00001-of-00002.gguf"))
	link(t, "../../../blobs/g2", filepath.Join(snapshot, "gguf/q-00002-of-00002.gguf"))
	return snapshot
}

// withoutLinks checks that a tree has no symbolic links and the contents of what
// the links of another lead to.
func withoutLinks(t testing.TB, want, got string) {
	t.Helper()
	err := filepath.WalkDir(want, func(at string, d os.DirEntry, err error) error {
		require.NoError(t, err)
		rel, err := filepath.Rel(want, at)
		require.NoError(t, err)
		info, err := os.Lstat(filepath.Join(got, rel))
		require.NoError(t, err)
		require.Zero(t, info.Mode()&os.ModeSymlink, rel)
		if !info.IsDir() {
			a, err := os.ReadFile(at)
			require.NoError(t, err)
			b, err := os.ReadFile(filepath.Join(got, rel))
			require.NoError(t, err)
			require.Equal(t, a, b, rel)
		}
		return nil
	})
	require.NoError(t, err)
}

// isResolved checks that got is where the copy of model without links belongs.
func (b *bench) isResolved(t testing.TB, model, got string) {
	t.Helper()
	rel, err := filepath.Rel(filepath.Join(b.dir, "resolved"), got)
	require.NoError(t, err)
	dir, base := filepath.Split(rel)
	require.Equal(t, filepath.Base(model), base)
	require.Regexp(t, `^(models--org--m|models)-[0-9a-z]{12}/$`, dir)
}

func nlink(t testing.TB, name string) uint64 {
	t.Helper()
	info, err := os.Stat(name)
	require.NoError(t, err)
	return uint64(info.Sys().(*syscall.Stat_t).Nlink)
}

func TestALocalSnapshotGetsACopyWithoutLinks(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"elsewhere", "in the storage directory"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			hub := t.TempDir()
			if where != "elsewhere" {
				hub = filepath.Join(b.dir, "hub")
			}
			snap := huggingFace(t, hub)
			before := snapshot(t, hub)
			var log basetest.Buffer
			lease, err := b.Acquire(t.Context(), storage.Request{Model: snap, Holder: "job", Log: &log})
			require.NoError(t, err, log.String())
			b.isResolved(t, snap, lease.Path)
			withoutLinks(t, snap, lease.Path)
			require.Contains(t, log.String(), "making a copy without links")
			require.Contains(t, log.String(), "shared with the original")
			require.EqualValues(t, 3, nlink(t, filepath.Join(lease.Path, "model-00001-of-00002.safetensors")), "the blob and two names in the copy")
			require.Equal(t, before, snapshot(t, hub))

			copies, err := b.List(t.Context())
			require.NoError(t, err)
			require.Len(t, copies, 1)
			require.Greater(t, copies[0].Bytes, int64(3<<20))
			require.Zero(t, copies[0].OnDisk)
			again, err := b.Acquire(t.Context(), storage.Request{Model: snap, Holder: "job2"})
			require.NoError(t, err)
			require.Equal(t, lease.Path, again.Path)
			require.NoError(t, again.Release())
			renewed, err := b.Acquire(t.Context(), storage.Request{Model: lease.Path, Holder: "job"})
			require.NoError(t, err)
			require.Equal(t, lease.Path, renewed.Path)
			require.NoError(t, renewed.Release())

			done, err := b.Evict(t.Context(), snap)
			require.NoError(t, err)
			require.Equal(t, []string{lease.Path}, done.Removed)
			require.Zero(t, done.BytesFreed, "the blobs are still there")
			require.Equal(t, before, snapshot(t, hub))
			require.NoDirExists(t, filepath.Join(b.dir, "resolved"))
		})
	}
}

func TestACopyWithoutLinksIsOfTheLatestState(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	hub := t.TempDir()
	snap := huggingFace(t, hub)
	lease, err := b.Acquire(t.Context(), storage.Request{Model: snap, Holder: "job"})
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(snap, "config.json")))
	write(t, hub, map[string]string{"models--org--m/blobs/c1": `{"architectures":["Y"]}`})
	link(t, "../../blobs/c1", filepath.Join(snap, "config.json"))

	_, err = b.Acquire(t.Context(), storage.Request{Model: snap, Holder: "other"})
	require.Equal(t, storage.ClassConflict, classOf(err), err)
	require.ErrorContains(t, err, "outdated and stays because in use by job")
	require.NoError(t, lease.Release())
	lease, err = b.Acquire(t.Context(), storage.Request{Model: snap, Holder: "other"})
	require.NoError(t, err)
	withoutLinks(t, snap, lease.Path)
}

// Another disk, or another owner's files: hard links are impossible.
func TestACopyWithoutLinksMayTakeSpace(t *testing.T) {
	t.Parallel()
	memory, err := os.MkdirTemp("/dev/shm", "kitt-models")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(memory)) })
	b := newBench(t, func(c *storage.Config) { c.Dir = memory })
	snap := huggingFace(t, t.TempDir())
	lease, err := b.Acquire(t.Context(), storage.Request{Model: snap, Holder: "job"})
	require.NoError(t, err)
	withoutLinks(t, snap, lease.Path)
	require.EqualValues(t, 1, nlink(t, filepath.Join(lease.Path, "config.json")))
	require.NoError(t, lease.Release())
	done, err := b.Evict(t.Context(), snap)
	require.NoError(t, err)
	require.Greater(t, done.BytesFreed, int64(3<<20))
}

// One file of a snapshot, or all of its parts.
func TestAFileOfALocalSnapshotKeepsItsName(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	snap := huggingFace(t, t.TempDir())
	lease, err := b.Acquire(t.Context(), storage.Request{Model: filepath.Join(snap, "gguf/q-00002-of-00002.gguf"), Holder: "job"})
	require.NoError(t, err)
	b.isResolved(t, filepath.Join(snap, "gguf/q-00001-of-00002.gguf"), filepath.Dir(lease.Path))
	require.Equal(t, "q-00001-of-00002.gguf", filepath.Base(lease.Path))
	require.Len(t, lease.Files, 2)
	require.Equal(t, []string{"q-00001-of-00002.gguf", "q-00002-of-00002.gguf"}, names(t, filepath.Dir(lease.Path)))
	path := b.get(t, filepath.Join(snap, "sub/again.bin"))
	b.isResolved(t, filepath.Join(snap, "sub/again.bin"), path)
	require.EqualValues(t, 2, nlink(t, path))
}

func TestLinksOfALocalModelStayWhereTheyMay(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	write(t, data, map[string]string{"blobs/w": "weights", "plain/model.safetensors": "1"})
	link(t, "../blobs/w", filepath.Join(data, "farm/model.safetensors"))
	link(t, filepath.Join(data, "plain/model.safetensors"), filepath.Join(data, "plain/again.safetensors"))
	b := newBench(t)
	_, err := b.Acquire(t.Context(), storage.Request{Model: filepath.Join(data, "farm"), Holder: "job"})
	require.Equal(t, storage.ClassEscape, classOf(err), err)
	require.ErrorContains(t, err, "models.dirs")
	copied := b.get(t, filepath.Join(data, "plain"))
	text, err := os.Readlink(filepath.Join(copied, "again.safetensors"))
	require.NoError(t, err)
	require.Equal(t, "model.safetensors", text, "an absolute link would lead nowhere in a container")

	b = newBench(t, func(c *storage.Config) { c.ModelDirs = []string{data, "/absent"} })
	withoutLinks(t, filepath.Join(data, "farm"), b.get(t, filepath.Join(data, "farm")))
	link(t, "/etc/passwd", filepath.Join(data, "farm/tokenizer.json"))
	_, err = b.Acquire(t.Context(), storage.Request{Model: filepath.Join(data, "farm"), Holder: "other"})
	require.Equal(t, storage.ClassEscape, classOf(err), err)
}

func TestAnIncompleteLocalModelIsNotUsed(t *testing.T) {
	t.Parallel()
	for _, tt := range incompleteModels {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			elsewhere := t.TempDir()
			write(t, elsewhere, tt.files)
			write(t, filepath.Join(b.dir, "Model"), tt.files)
			for _, model := range []string{elsewhere, "Model"} {
				_, err := b.Acquire(t.Context(), storage.Request{Model: model, Holder: "job"})
				require.Equal(t, storage.ClassIncomplete, classOf(err), err)
				for _, text := range tt.named {
					require.ErrorContains(t, err, text)
				}
			}
			require.Equal(t, []string{"Model"}, names(t, b.dir))
		})
	}
}

func TestPartsOnThisMachineAreUsedWhereTheyAre(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	elsewhere := t.TempDir()
	files := map[string]string{"big-00001-of-00002.gguf": "1", "big-00002-of-00002.gguf": "2", "other.gguf": "3"}
	write(t, elsewhere, files)
	write(t, b.dir, files)
	for model, dir := range map[string]string{filepath.Join(elsewhere, "big-00002-of-00002.gguf"): elsewhere, "big-00002-of-00002.gguf": b.dir} {
		lease, err := b.Acquire(t.Context(), storage.Request{Model: model, Holder: "job"})
		require.NoError(t, err)
		require.Equal(t, filepath.Join(dir, "big-00001-of-00002.gguf"), lease.Path)
		require.Equal(t, []string{lease.Path, filepath.Join(dir, "big-00002-of-00002.gguf")}, lease.Files)
	}
}
