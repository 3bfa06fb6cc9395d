package storage_test

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/internal/base/basetest"
	"github.com/kirizan/kitt-agent/storage"
	"github.com/kirizan/kitt-agent/storage/testdata/testdisk"
)

// oddName is a name that text files, terminals and JSON can't represent.
const oddName = "team\nof\x1b[31m/m\xff\xfe \u202e"

func TestModelOfAnyName(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *storage.Config) { c.Owner = "one" })
	write(t, b.share, map[string]string{oddName + "/w\n\xff": noise(100_000, 1), oddName + "/SHA256SUMS": "no sums\n"})

	var log basetest.Buffer
	lease, err := b.Acquire(t.Context(), storage.Request{Model: oddName, Holder: "job", Log: &log})
	require.NoError(t, err)
	require.Equal(t, filepath.Join(b.dir, oddName), lease.Path)
	require.Equal(t, snapshot(t, filepath.Join(b.share, oddName)), snapshot(t, lease.Path))
	for line := range strings.Lines(log.String()) {
		require.True(t, utf8.ValidString(line), "%q", line)
		require.NotContains(t, line, "\x1b")
		require.Regexp(t, `^(copied|copying|using) .*team\\nof.*\n$`, line)
	}
	all, err := b.List(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.Equal(t, oddName, all[0].Model)
	require.Equal(t, oddName, all[0].SourcePath)
	require.Equal(t, []string{"job"}, all[0].Holders)

	// After a restart the lease is found again, and released.
	again := open(t, storage.Config{Owner: "one", Settings: storage.Settings{Dir: b.dir, ShareMount: b.share}})
	lease, err = again.Acquire(t.Context(), storage.Request{Model: oddName, Holder: "job"})
	require.NoError(t, err)
	require.NoError(t, lease.Release())
	v, err := again.Verify(t.Context(), oddName, nil)
	require.NoError(t, err)
	require.Empty(t, v.Damaged)
	done, err := again.Evict(t.Context(), oddName)
	require.NoError(t, err)
	require.Equal(t, []string{filepath.Join(b.dir, oddName)}, done.Removed)
	require.Empty(t, names(t, b.dir), "the directories made for it are removed as well")

	_, err = b.Acquire(t.Context(), storage.Request{Model: "/none/of\nthese\xff.gguf", Holder: "job"})
	require.ErrorIs(t, err, storage.ErrNotFound)
	require.NotContains(t, err.Error(), "\n")
	require.True(t, utf8.ValidString(err.Error()))
}

// TestInterruptedCopyOfAnyName finds and removes what a crash leaves of such a model.
func TestInterruptedCopyOfAnyName(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	write(t, b.share, map[string]string{oddName + "/w": noise(128<<20, 1)})
	kill := startChild(t, b.dir, b.share, oddName)
	require.Eventually(t, func() bool { return journalled(b.dir+"/team*") > 500 }, pollFor, pollEvery)
	kill()
	all, err := b.List(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.True(t, all[0].Partial)
	require.Equal(t, oddName, all[0].Model)
	done, err := b.Evict(t.Context(), "")
	require.NoError(t, err)
	require.Len(t, done.Removed, 1)
	require.Empty(t, names(t, b.dir))
}

// TestTwoProcessesOneDirectory kills one of two agents that copy the same model. The
// other one resumes its copy.
func TestTwoProcessesOneDirectory(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	write(t, b.share, map[string]string{"m/one": noise(64<<20, 1), "m/two": noise(64<<20, 2)})
	kill := startChild(t, b.dir, b.share, "m")
	require.Eventually(t, func() bool { return journalled(b.dir) > 500 }, pollFor, pollEvery)
	var log basetest.Buffer
	got := make(chan error, 1)
	go func() {
		_, err := b.Acquire(t.Context(), storage.Request{Model: "m", Holder: "second", Log: &log})
		got <- err
	}()
	kill()
	require.NoError(t, <-got)
	require.Contains(t, log.String(), "resuming an interrupted copy")
	at := filepath.Join(b.dir, "m")
	require.Equal(t, snapshot(t, filepath.Join(b.share, "m")), snapshot(t, at))

	// The dead agent's lease holds: its job may still run.
	done, err := b.Evict(t.Context(), "m")
	require.NoError(t, err)
	require.Len(t, done.Kept, 1)
	require.Contains(t, done.Kept[0].Reason, "killed")
	require.Equal(t, []string{"m"}, names(t, b.dir))
}

// TestManyProcessesOneDirectory has agents in several processes copy, use and remove
// the same model repeatedly.
func TestManyProcessesOneDirectory(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	write(t, b.share, map[string]string{"m/one": noise(3<<20, 1), "m/d/two": noise(3000, 2)})
	var agents []*exec.Cmd
	var said []*bufio.Scanner
	for i := range 3 {
		cmd := child(t, b.dir, b.share, "m", fmt.Sprint("rounds ", i))
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		agents, said = append(agents, cmd), append(said, bufio.NewScanner(out))
	}
	for i, cmd := range agents {
		for said[i].Scan() {
			require.Equal(t, "end <nil>", said[i].Text())
		}
		require.NoError(t, cmd.Wait())
	}
	require.Empty(t, names(t, b.dir), "the last one cleans up")
}

func TestChecksumFilesAsTheyAreFound(t *testing.T) {
	t.Parallel()
	sum := func(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }
	for _, tt := range []struct{ name, file, content, format string }{
		{"CR LF", "a", "SHA256SUMS", "%s  a\r\n"},
		{"binary marker", "a", "SHA256SUMS", "%s *a\n"},
		{"binary marker and CR LF", "d/a", "d/sha256sums.txt", "%s *a\r\n"},
		{"upper case", "a", "SHA256SUMS", "%S  a\n"},
		{"line break in the name", "a\nb", "SHA256SUMS", `\%s  a\nb` + "\n"},
		{"backslash in the name", `a\b`, "SHA256SUMS", `\%s *a\\b` + "\n"},
		{"tagged line break", "a\nb", "SHA256SUMS", `\SHA256 (a\nb) = %s` + "\n"},
		{"byte order mark", "a", "SHA256SUMS", "\ufeff%s  a\n"},
		{"alone", "a", "a.sha256", "%s"},
		{"alone with a space and CR LF", "a", "a.sha256", "%s \r\n"},
		{"upper case name of the file", "a", "a.SHA256", "%S *A_OTHER/a\r\n"},
		{"not UTF-8", "a\xff", "SHA256SUMS", "%s  a\xff\n"},
		{"space at the end", "a ", "SHA256SUMS", "%s  a \n"},
		{"among others", "a", "SHA256SUMS", "# made by hand\n\n" + sum("x") + "  gone\n%s  ./a\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			line := func(sum string) string {
				return strings.NewReplacer("%s", sum, "%S", strings.ToUpper(sum)).Replace(tt.format)
			}
			b := newBench(t)
			write(t, b.share, map[string]string{"good/" + tt.file: "1", "good/" + tt.content: line(sum("1"))})
			b.get(t, "good")
			write(t, b.share, map[string]string{"bad/" + tt.file: "1", "bad/" + tt.content: line(sum("2"))})
			b.refused(t, "bad", storage.ClassDamaged)
		})
	}
}

func TestChecksumsOfLinks(t *testing.T) {
	t.Parallel()
	sum := func(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }
	for _, tt := range []struct{ name, sums, class string }{
		{"right", sum("1") + "  file\n" + sum("1") + "  hard\n" + sum("1") + "  soft\n", ""},
		{"itself", sum("1") + "  file\n" + sum("") + "  ./SHA256SUMS\n", ""},
		{"a hard link's", sum("2") + "  hard\n", storage.ClassDamaged},
		{"the other hard link's", sum("2") + "  file\n", storage.ClassDamaged},
		{"a link's", sum("2") + "  soft\n", storage.ClassDamaged},
		{"a link's to a link", sum("2") + "  d/chain\n", storage.ClassDamaged},
		{"two", sum("1") + "  file\n" + sum("2") + "  soft\n", storage.ClassDamaged},
		{"a dangling link's", sum("2") + "  dangling\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			m := filepath.Join(b.share, "m")
			write(t, m, map[string]string{"file": "1", "SHA256SUMS": tt.sums})
			require.NoError(t, os.Link(filepath.Join(m, "file"), filepath.Join(m, "hard")))
			link(t, "hard", filepath.Join(m, "soft"))
			link(t, "../soft", filepath.Join(m, "d/chain"))
			link(t, "nothing", filepath.Join(m, "dangling"))
			if tt.class == "" {
				b.get(t, "m")
				return
			}
			b.refused(t, "m", tt.class)
		})
	}
}

func TestHardLinksAndHolesAfterAKill(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	m := filepath.Join(b.share, "m")
	write(t, m, map[string]string{"d/w": noise(96<<20, 1)})
	require.NoError(t, os.Link(filepath.Join(m, "d/w"), filepath.Join(m, "again")))
	f, err := os.Create(filepath.Join(m, "sparse"))
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("data"), 64<<20)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(128<<20))
	require.NoError(t, f.Close())
	kill := startChild(t, b.dir, b.share, "m")
	require.Eventually(t, func() bool { return journalled(b.dir) > 500 }, pollFor, pollEvery)
	kill()
	at := b.get(t, "m")
	require.Equal(t, snapshot(t, m), snapshot(t, at))
	one, err := os.Stat(filepath.Join(at, "d/w"))
	require.NoError(t, err)
	two, err := os.Stat(filepath.Join(at, "again"))
	require.NoError(t, err)
	require.True(t, os.SameFile(one, two))
	require.Less(t, blocks(t, filepath.Join(at, "sparse")), int64(4<<20))
}

// TestSparseFileOfAnySize copies files whose apparent size exceeds every disk, and so
// many that the sum of their sizes overflows.
func TestSparseFileOfAnySize(t *testing.T) {
	t.Parallel()
	share := testdisk.Mount(t, "tmpfs", 8)
	b := newBench(t, func(c *storage.Config) { c.ShareMount = share })
	write(t, share, map[string]string{"one/w": "1", "many/a": "1", "many/b": "1", "many/c": "1"})
	for _, name := range []string{"one/w", "many/a", "many/b", "many/c"} {
		require.NoError(t, os.Truncate(filepath.Join(share, name), 1<<62))
	}
	for _, model := range []string{"one", "one/w", "many"} {
		err := b.refused(t, model, storage.ClassInvalid)
		require.Contains(t, err.Error(), "more than 16 TiB")
	}
}
