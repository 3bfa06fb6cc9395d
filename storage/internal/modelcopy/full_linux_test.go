package modelcopy

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/storage/internal/iofault"
	"github.com/kirizan/kitt-agent/storage/testdata/testdisk"
)

// TestDiskThatFillsMeanwhile fills the disk after the copy has reserved its space
// and before it writes.
func TestDiskThatFillsMeanwhile(t *testing.T) {
	t.Parallel()
	for kind, file := range map[string]int{"tmpfs": 1 << 20, "ext4": 1 << 20, "tmpfs with small files": 20_000, "ext4 with small files": 20_000} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			fsKind, _, _ := strings.Cut(kind, " ")
			disk, share := testdisk.Mount(t, fsKind, 32), t.TempDir()
			require.NoError(t, os.Mkdir(filepath.Join(share, "m"), 0o755))
			content := strings.Repeat("w", file)
			for i := range 8 << 20 / file {
				require.NoError(t, os.WriteFile(filepath.Join(share, "m", strings.Repeat("n", 1+i%200)+string(rune('a'+i/200))), []byte(content), 0o644))
			}
			filler := filepath.Join(disk, "filler")
			c := newCopier(Options{Share: share, Model: "m", Stage: filepath.Join(disk, "stage"), Counters: new(Counters), Note: func(string) {}})
			c.Reserve = func(_, _ int64) error { return fill(filler) }
			_, err := start(t, c)
			require.Equal(t, iofault.Space, iofault.ClassOf(err), err)
			require.ErrorIs(t, err, syscall.ENOSPC)

			require.NoError(t, os.Remove(filler))
			c.Reserve = func(_, _ int64) error { return nil }
			_, err = start(t, c)
			require.NoError(t, err, "with space it resumes")
			copied := 0
			for _, f := range c.files {
				got, err := os.ReadFile(filepath.Join(disk, "stage/data", f.path))
				require.NoError(t, err)
				require.Equal(t, content, string(got))
				copied++
			}
			require.Equal(t, 8<<20/file, copied)
		})
	}
}

// fill writes a file until the disk has 2 MiB left.
func fill(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	block := make([]byte, 64<<10)
	for err == nil {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		return errors.Join(err, f.Close())
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(f.Truncate(info.Size()-2<<20), f.Sync(), f.Close())
}
