package storage_test

import (
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/internal/base/basetest"
	"github.com/kirizan/kitt-agent/storage"
	"github.com/kirizan/kitt-agent/storage/testdata/testdisk"
)

func (b *bench) refused(t testing.TB, model, class string) error {
	t.Helper()
	_, err := b.Acquire(t.Context(), storage.Request{Model: model, Holder: "job"})
	require.Error(t, err)
	require.Equal(t, class, classOf(err), err)
	require.NoFileExists(t, filepath.Join(b.dir, model))
	require.NoDirExists(t, filepath.Join(b.dir, model))
	return err
}

func TestHuggingFaceTree(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	hub := filepath.Join(b.share, "hub/models--org--m")
	write(t, hub, map[string]string{"blobs/aaa": noise(200_000, 1), "blobs/bbb": "{}", "refs/main": "rev"})
	link(t, "../../blobs/aaa", filepath.Join(hub, "snapshots/rev/model.safetensors"))
	link(t, "../../blobs/bbb", filepath.Join(hub, "snapshots/rev/config.json"))
	link(t, "../../blobs/bbb", filepath.Join(hub, "snapshots/rev/same.json"))

	whole := b.get(t, "hub/models--org--m")
	require.Equal(t, snapshot(t, hub), snapshot(t, whole), "links inside stay as they are")
	_, err := b.Evict(t.Context(), "")
	require.NoError(t, err)

	one := newBench(t, func(c *storage.Config) { c.ShareMount = b.share })
	snap := one.get(t, "hub/models--org--m/snapshots/rev")
	for name, want := range map[string]string{"model.safetensors": noise(200_000, 1), "config.json": "{}", "same.json": "{}"} {
		info, err := os.Lstat(filepath.Join(snap, name))
		require.NoError(t, err)
		require.True(t, info.Mode().IsRegular(), "links to elsewhere on the share are followed")
		got, err := os.ReadFile(filepath.Join(snap, name))
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
}

// TestFileThatIsALink requests one file of a Hugging Face cache, where the name of a
// blob doesn't tell its format.
func TestFileThatIsALink(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	hub := filepath.Join(b.share, "hub/models--org--m")
	good, cut := noise(2000, 1), "\x40\x00\x00\x00\x00\x00\x00\x00{"
	write(t, hub, map[string]string{"blobs/aaa": good, "blobs/bbb": cut, "snapshots/rev/summed.gguf.sha256": strings.Repeat("0", 64)})
	link(t, "../../blobs/aaa", filepath.Join(hub, "snapshots/rev/model.gguf"))
	link(t, "../../blobs/aaa", filepath.Join(hub, "snapshots/rev/summed.gguf"))
	link(t, "../../blobs/bbb", filepath.Join(hub, "snapshots/rev/cut.safetensors"))
	link(t, "/etc/passwd", filepath.Join(hub, "snapshots/rev/out.gguf"))
	link(t, "models--org--m/snapshots", filepath.Join(b.share, "hub/short"))

	const snap = "hub/models--org--m/snapshots/rev/"
	for _, model := range []string{snap + "model.gguf", "hub/short/rev/model.gguf", "/elsewhere/model.gguf"} {
		at := b.get(t, model)
		require.Equal(t, "model.gguf", filepath.Base(at), model)
		info, err := os.Lstat(at)
		require.NoError(t, err)
		require.True(t, info.Mode().IsRegular())
		got, err := os.ReadFile(at)
		require.NoError(t, err)
		require.Equal(t, good, string(got))
		v, err := b.Verify(t.Context(), at, nil)
		require.NoError(t, err)
		require.Empty(t, v.Damaged)
	}
	b.refused(t, snap+"cut.safetensors", storage.ClassDamaged)
	b.refused(t, snap+"summed.gguf", storage.ClassDamaged)
	b.refused(t, snap+"out.gguf", storage.ClassEscape)
}

func TestLinks(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	m := filepath.Join(b.share, "m")
	write(t, b.share, map[string]string{"m/d/file": "1", "m/file": "2", "other/dir/x": "3", "other/dir/sub/y": "4"})
	link(t, "d/file", filepath.Join(m, "inside"))
	link(t, "inside", filepath.Join(m, "chain"))
	link(t, "../file", filepath.Join(m, "d/up"))
	link(t, "missing", filepath.Join(m, "dangling"))
	link(t, filepath.Join(m, "d/file"), filepath.Join(m, "absolute"))
	link(t, "../m/file", filepath.Join(m, "around"))
	link(t, "../other/dir", filepath.Join(m, "elsewhere"))
	link(t, "x", filepath.Join(b.share, "other/dir/near"))
	link(t, "../../m/file", filepath.Join(b.share, "other/dir/back"))
	link(t, "../nowhere", filepath.Join(m, "gone"))
	link(t, "../other/dir/x/y", filepath.Join(m, "throughfile"))
	link(t, "d", filepath.Join(m, "dirlink"))
	require.NoError(t, os.Link(filepath.Join(m, "file"), filepath.Join(m, "hard")))
	link(t, "m", filepath.Join(b.share, "alias"))

	at := b.get(t, "alias")
	require.Equal(t, filepath.Join(b.dir, "m"), at, "a model is what the link leads to")
	for name, want := range map[string]string{
		"inside": "d/file", "chain": "inside", "d/up": "../file", "dangling": "missing", "dirlink": "d",
		"absolute": "d/file", "around": "file", "elsewhere/near": "x", "elsewhere/back": "../file",
	} {
		got, err := os.Readlink(filepath.Join(at, name))
		require.NoError(t, err, name)
		require.Equal(t, want, got, name)
	}
	got, err := os.ReadFile(filepath.Join(at, "elsewhere/sub/y"))
	require.NoError(t, err)
	require.Equal(t, "4", string(got))
	got, err = os.ReadFile(filepath.Join(at, "elsewhere/back"))
	require.NoError(t, err)
	require.Equal(t, "2", string(got))
	require.NoFileExists(t, filepath.Join(at, "gone"))
	require.NoFileExists(t, filepath.Join(at, "throughfile"))
	one, err := os.Stat(filepath.Join(at, "file"))
	require.NoError(t, err)
	two, err := os.Stat(filepath.Join(at, "hard"))
	require.NoError(t, err)
	require.True(t, os.SameFile(one, two))
}

func TestVerifyLooksAtLinks(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	m := filepath.Join(b.share, "m")
	write(t, m, map[string]string{"file": "1", "config.json": "{}"})
	require.NoError(t, os.Link(filepath.Join(m, "file"), filepath.Join(m, "hard")))
	link(t, "file", filepath.Join(m, "soft"))
	at := b.get(t, "m")
	damaged := func() []string {
		v, err := b.Verify(t.Context(), "m", nil)
		require.NoError(t, err)
		return v.Damaged
	}
	require.Empty(t, damaged())
	for _, name := range []string{"hard", "soft"} {
		require.NoError(t, os.Rename(filepath.Join(at, name), filepath.Join(b.share, name)))
	}
	require.Equal(t, []string{"hard", "soft"}, damaged(), "missing")
	write(t, at, map[string]string{"hard": "2"})
	link(t, "config.json", filepath.Join(at, "soft"))
	require.Equal(t, []string{"hard", "soft"}, damaged(), "something else")
	require.NoError(t, os.Remove(filepath.Join(at, "soft")))
	write(t, at, map[string]string{"soft": "1"})
	require.Equal(t, []string{"hard", "soft"}, damaged(), "no link")
}

func TestNothingLeadsOutOfTheShare(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("secret"), 0o600))
	for _, text := range []string{secret, "../../" + strings.Repeat("../", 40) + secret[1:], "/", filepath.Dir(secret), "../..", ".."} {
		b := newBench(t)
		write(t, b.share, map[string]string{"m/file": "1"})
		link(t, text, filepath.Join(b.share, "m/out"))
		require.Contains(t, []string{storage.ClassEscape, storage.ClassLoop}, classOf(b.refused2(t, "m")), text)
		link(t, text, filepath.Join(b.share, "top"))
		_, err := b.Acquire(t.Context(), storage.Request{Model: b.share + "/top", Holder: "j"})
		require.Contains(t, []string{storage.ClassEscape, storage.ClassInvalid}, classOf(err), text)
	}
	b := newBench(t)
	require.NoError(t, os.MkdirAll(b.dir, 0o755))
	write(t, b.share, map[string]string{"out/file": "1"})
	outside := t.TempDir()
	link(t, outside, filepath.Join(b.dir, "out"))
	for _, model := range []string{"out", "out/file", b.dir + "/out"} {
		_, err := b.Acquire(t.Context(), storage.Request{Model: model, Holder: "j"})
		require.Equal(t, storage.ClassEscape, classOf(err), model)
		_, err = b.Evict(t.Context(), model)
		require.Error(t, err)
	}
	require.Empty(t, names(t, outside))
}

func (b *bench) refused2(t testing.TB, model string) error {
	t.Helper()
	_, err := b.Acquire(t.Context(), storage.Request{Model: model, Holder: "job"})
	require.Error(t, err)
	return err
}

func TestOddTrees(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	m := filepath.Join(b.share, "m")
	write(t, m, map[string]string{"new\nline": "1", "bad\xff\xfename": "2", "-rf": "3", strings.Repeat("n", 255): "4", "..x/...": "5"})
	require.NoError(t, os.Mkdir(filepath.Join(m, "emptydir"), 0o755))
	want := snapshot(t, m)
	require.NoError(t, unix.Mkfifo(filepath.Join(m, "fifo"), 0o644))
	socket, err := net.Listen("unix", filepath.Join(m, "socket"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, socket.Close()) })
	if err := unix.Mknod(filepath.Join(m, "device"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))); err != nil {
		t.Log("no device node here: ", err)
	}
	var log basetest.Buffer
	lease, err := b.Acquire(t.Context(), storage.Request{Model: "m", Holder: "j", Log: &log})
	require.NoError(t, err)
	require.Contains(t, log.String(), `left out "m/fifo": neither a file nor a directory`)
	require.Contains(t, log.String(), `left out "m/socket"`)
	info, err := os.Stat(m)
	require.NoError(t, err)
	require.NoError(t, os.Chtimes(lease.Path, info.ModTime(), info.ModTime()))
	require.Equal(t, want, snapshot(t, lease.Path))
	v, err := b.Verify(t.Context(), "m", nil)
	require.NoError(t, err)
	require.Empty(t, v.Damaged)
	require.NoError(t, lease.Release())
	done, err := b.Evict(t.Context(), "m")
	require.NoError(t, err)
	require.Equal(t, []string{lease.Path}, done.Removed)

	link(t, "../loop", filepath.Join(b.share, "loop/again"))
	write(t, b.share, map[string]string{"loop/file": "1", "elsewhere/file": "2"})
	text, err := os.Readlink(filepath.Join(b.get(t, "loop"), "again"))
	require.NoError(t, err)
	require.Equal(t, ".", text, "a link to the directory that it is in stays a link")
	link(t, "../elsewhere", filepath.Join(b.share, "far/in"))
	link(t, "../elsewhere", filepath.Join(b.share, "elsewhere/in"))
	b.refused(t, "far", storage.ClassLoop)
}

func TestSparseFilesStaySo(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	name := filepath.Join(b.share, "m/sparse")
	require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
	f, err := os.Create(name)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(1<<30))
	_, err = f.WriteAt([]byte("near the middle"), 500<<20)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	at := b.get(t, "m")
	info, err := os.Stat(filepath.Join(at, "sparse"))
	require.NoError(t, err)
	require.Equal(t, int64(1<<30), info.Size())
	require.Less(t, blocks(t, filepath.Join(at, "sparse")), int64(4<<20))
	data := make([]byte, 15)
	f, err = os.Open(filepath.Join(at, "sparse"))
	require.NoError(t, err)
	_, err = f.ReadAt(data, 500<<20)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.Equal(t, "near the middle", string(data))
	v, err := b.Verify(t.Context(), "m", nil)
	require.NoError(t, err)
	require.Empty(t, v.Damaged)
}

// blocks returns how many bytes a file takes on its disk.
func blocks(t testing.TB, name string) int64 {
	t.Helper()
	info, err := os.Stat(name)
	require.NoError(t, err)
	return info.Sys().(*syscall.Stat_t).Blocks * 512
}

func TestChecksumsAndHeaders(t *testing.T) {
	t.Parallel()
	sum := func(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }
	tensors := func(body string) string {
		head := `{"w":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}`
		return string([]byte{byte(len(head)), 0, 0, 0, 0, 0, 0, 0}) + head + body
	}
	for _, tt := range []struct {
		name  string
		files map[string]string
		fails bool
	}{
		{"sum in a file next to it", map[string]string{"a": "1", "a.sha256": sum("1") + "\n"}, false},
		{"wrong sum in a file next to it", map[string]string{"a": "1", "a.sha256": sum("2")}, true},
		{"sums", map[string]string{"d/a": "1", "d/b": "2", "d/SHA256SUMS": sum("1") + "  a\n" + sum("2") + " *b\n"}, false},
		{"wrong sums", map[string]string{"d/a": "1", "SHA256SUMS": sum("2") + "  ./d/a\n"}, true},
		{"wrong tagged sums", map[string]string{"a": "1", "SHA256SUMS": "SHA256 (a) = " + sum("2") + "\n"}, true},
		{"sum written elsewhere", map[string]string{"a": "1", "a.sha256": sum("2") + "  /build/a\n"}, true},
		{"no sums at all", map[string]string{"a": "1", "a.sha256": "to be done\n"}, false},
		{"tensors", map[string]string{"a.safetensors": tensors("1234")}, false},
		{"tensors cut off", map[string]string{"a.safetensors": tensors("123")}, true},
		{"no tensors", map[string]string{"a.safetensors": "hello, world"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			write(t, filepath.Join(b.share, "m"), tt.files)
			if !tt.fails {
				b.get(t, "m")
				return
			}
			var log basetest.Buffer
			_, err := b.Acquire(t.Context(), storage.Request{Model: "m", Holder: "j", Log: &log})
			require.Equal(t, storage.ClassDamaged, classOf(err), err)
			require.Contains(t, log.String(), "once more")
			require.NoDirExists(t, filepath.Join(b.dir, "m"))
		})
	}
	b := newBench(t)
	write(t, b.share, map[string]string{"x.gguf": "1", "x.gguf.sha256": sum("2")})
	b.refused(t, "x.gguf", storage.ClassDamaged)
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	disk := testdisk.Mount(t, "tmpfs", 16)
	b := newBench(t, func(c *storage.Config) { c.Dir = filepath.Join(disk, "models") })
	write(t, b.share, map[string]string{
		"old/w": noise(5<<20, 1), "new/w": noise(5<<20, 2), "third/w": noise(8<<20, 3), "huge/w": noise(20<<20, 4),
	})

	for _, name := range []string{"old", "new"} {
		lease, err := b.Acquire(t.Context(), storage.Request{Model: name, Holder: name})
		require.NoError(t, err)
		require.NoError(t, lease.Release())
	}
	err := b.refused(t, "huge", storage.ClassSpace)
	require.Contains(t, err.Error(), "old (5 MiB)")
	require.Contains(t, err.Error(), "too much")
	require.Equal(t, []string{"new", "old"}, names(t, b.dir), "it removes nothing if that would not be enough")

	held, err := b.Acquire(t.Context(), storage.Request{Model: "old", Holder: "busy"})
	require.NoError(t, err)
	var log basetest.Buffer
	lease, err := b.Acquire(t.Context(), storage.Request{Model: "third", Holder: "j", Log: &log})
	require.NoError(t, err)
	require.Contains(t, log.String(), "removed the copy of new")
	require.Equal(t, []string{"old", "third"}, names(t, b.dir))
	require.NoError(t, held.Release())
	require.NoError(t, lease.Release())
}

func TestLimitOfAllCopies(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *storage.Config) { c.MaxBytes = 3 << 20 })
	for i, name := range []string{"a", "b", "c"} {
		write(t, b.share, map[string]string{name + "/w": noise(1<<20, uint64(i))})
		lease, err := b.Acquire(t.Context(), storage.Request{Model: name, Holder: "j"})
		require.NoError(t, err)
		require.NoError(t, lease.Release())
	}
	require.Equal(t, []string{"b", "c"}, names(t, b.dir), "directories count too, so two fit")
}

func TestReflinkedCopies(t *testing.T) {
	for kind, size := range map[string]int{"xfs": 320, "btrfs": 256} {
		t.Run(kind, func(t *testing.T) {
			disk := testdisk.Mount(t, kind, size)
			b := newBench(t, func(c *storage.Config) {
				c.ShareMount, c.Dir = filepath.Join(disk, "share"), filepath.Join(disk, "models")
			})
			write(t, b.share, map[string]string{"m/w": noise(32<<20, 1), "m/small": "1"})
			require.NoError(t, exec.Command("sync", "-f", disk).Run())
			before := free(t, disk)
			at := b.get(t, "m")
			require.Equal(t, snapshot(t, filepath.Join(b.share, "m")), snapshot(t, at))
			require.NoError(t, exec.Command("sync", "-f", disk).Run())
			require.Less(t, before-free(t, disk), int64(16<<20), "blocks are shared")
			v, err := b.Verify(t.Context(), "m", nil)
			require.NoError(t, err)
			require.Empty(t, v.Damaged)
		})
	}
}

func free(t testing.TB, dir string) int64 {
	t.Helper()
	var st unix.Statfs_t
	require.NoError(t, unix.Statfs(dir, &st))
	return int64(st.Bfree) * st.Bsize
}

// TestFileSystemWithCoarseTimes copies to a disk that stores whole seconds, as ext4
// does with small inodes. The storage recognizes such copies as its own.
func TestFileSystemWithCoarseTimes(t *testing.T) {
	t.Parallel()
	disk := testdisk.Mount(t, "ext4", 64, "-I", "128")
	b := newBench(t, func(c *storage.Config) { c.Dir = filepath.Join(disk, "models") })
	m := filepath.Join(b.share, "m")
	write(t, m, map[string]string{"w": noise(5<<20, 1), "small": "1"})
	require.NoError(t, os.Link(filepath.Join(m, "w"), filepath.Join(m, "again")))
	at := time.Unix(1_700_000_000, 123_456_789)
	require.NoError(t, os.Chtimes(filepath.Join(m, "w"), at, at))
	late := time.Date(2040, 1, 1, 0, 0, 0, 1, time.UTC) // this one is kept as the last second of its time
	require.NoError(t, os.Chtimes(filepath.Join(m, "small"), late, late))
	lease, err := b.Acquire(t.Context(), storage.Request{Model: "m", Holder: "j"})
	require.NoError(t, err)
	require.NoError(t, lease.Release())
	done, err := b.Evict(t.Context(), "")
	require.NoError(t, err)
	require.Empty(t, done.Kept)
	require.Equal(t, []string{lease.Path}, done.Removed)
}

func TestUnreadableFile(t *testing.T) {
	t.Parallel()
	if os.Getuid() == 0 {
		t.Skip("SKIPPED: root reads everything; the FUSE tests deny it")
	}
	b := newBench(t)
	write(t, b.share, map[string]string{"m/w": "1"})
	require.NoError(t, os.Chmod(filepath.Join(b.share, "m/w"), 0))
	b.refused(t, "m", storage.ClassPermission)
}

func TestTwoAgentsOneDirectory(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	write(t, filepath.Join(b.share, "m"), map[string]string{"w": noise(24<<20, 1)})
	agents := make([]*storage.Local, 4)
	got := make(chan error, len(agents))
	for i := range agents {
		agents[i] = open(t, storage.Config{Owner: fmt.Sprint(i), Settings: storage.Settings{Dir: b.dir, ShareMount: b.share, AutoCleanup: true}})
		go func() {
			for range 3 {
				lease, err := agents[i].Acquire(t.Context(), storage.Request{Model: "m", Holder: "same"})
				if err == nil {
					_, err = os.Stat(filepath.Join(lease.Path, "w"))
				}
				if err == nil {
					err = lease.Release()
				}
				if err != nil {
					got <- err
					return
				}
			}
			got <- nil
		}()
	}
	for range agents {
		require.NoError(t, <-got)
	}
	require.Empty(t, names(t, b.dir))
}

func TestPartOfAModelThenAllOfIt(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	write(t, b.share, map[string]string{"team/m/a.gguf": "1", "team/m/b.gguf": "2"})
	part, err := b.Acquire(t.Context(), storage.Request{Model: "team/m/a.gguf", Holder: "part"})
	require.NoError(t, err)
	_, err = b.Acquire(t.Context(), storage.Request{Model: "team/m", Holder: "all"})
	require.Equal(t, storage.ClassConflict, classOf(err), "half a model is not a model: %v", err)
	require.NoError(t, part.Release())
	at := b.get(t, "team/m")
	require.Equal(t, snapshot(t, filepath.Join(b.share, "team/m")), snapshot(t, at))
	inner, err := b.Acquire(t.Context(), storage.Request{Model: "team/m/b.gguf", Holder: "inner"})
	require.NoError(t, err)
	require.Equal(t, storage.OriginLocal, inner.Origin)
	done, err := b.Evict(t.Context(), "team/m")
	require.NoError(t, err)
	require.Contains(t, done.Kept[0].Reason, "in use by job, inner")
}
