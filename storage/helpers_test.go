package storage_test

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kirizan/kitt-agent/internal/base/basetest"
	"github.com/kirizan/kitt-agent/storage"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		runChild()
		return
	}
	goleak.VerifyTestMain(m)
}

// A bench is a share and a storage directory, with a storage between them.
type bench struct {
	*storage.Local
	share, dir string
}

func newBench(t testing.TB, change ...func(*storage.Config)) *bench {
	t.Helper()
	b := &bench{share: t.TempDir(), dir: filepath.Join(t.TempDir(), "models")}
	cfg := storage.Config{Settings: storage.Settings{Dir: b.dir, ShareMount: b.share}, Home: t.TempDir()}
	for _, f := range change {
		f(&cfg)
	}
	b.dir, b.share = cfg.Dir, cfg.ShareMount
	b.Local = open(t, cfg)
	return b
}

func open(t testing.TB, cfg storage.Config) *storage.Local {
	t.Helper()
	l, err := storage.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

func (b *bench) get(t testing.TB, model string) string {
	t.Helper()
	var log basetest.Buffer
	lease, err := b.Acquire(t.Context(), storage.Request{Model: model, Holder: "job", Log: &log})
	require.NoError(t, err, log.String())
	return lease.Path
}

// write makes files below dir: a text is their content.
func write(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		at := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(at), 0o755))
		require.NoError(t, os.WriteFile(at, []byte(content), 0o644))
	}
}

// link makes a symbolic link at the path at.
func link(t testing.TB, text, at string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(at), 0o755))
	require.NoError(t, os.Symlink(text, at))
}

// noise returns n bytes that look like weights, the same for the same seed.
func noise(n int, seed uint64) string {
	var key [32]byte
	key[0] = byte(seed)
	key[1] = byte(seed >> 8)
	p := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(p) // never fails
	return string(p)
}

// snapshot describes a tree: kinds, modes, times, link texts and contents.
func snapshot(t testing.TB, dir string) string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		rel, err := filepath.Rel(dir, at)
		require.NoError(t, err)
		info, err := d.Info()
		require.NoError(t, err)
		line := fmt.Sprintf("%q %v", rel, info.Mode())
		switch {
		case d.Type() == fs.ModeSymlink:
			text, err := os.Readlink(at)
			require.NoError(t, err)
			line += " -> " + text
		case d.Type().IsRegular():
			data, err := os.ReadFile(at)
			require.NoError(t, err)
			line += fmt.Sprintf(" %d %d %x", len(data), info.ModTime().UnixNano(), sha256.Sum256(data))
		}
		lines = append(lines, line)
		return nil
	})
	require.NoError(t, err)
	return strings.Join(lines, "\n")
}

// names lists what is in dir, without the storage's own directory.
func names(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil
	}
	require.NoError(t, err)
	var all []string
	for _, e := range entries {
		if e.Name() != ".kitt" {
			all = append(all, e.Name())
		}
	}
	return all
}
