package logstream

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
	"github.com/klauspost/compress/zstd"

	"github.com/kirizan/kitt-agent/internal/base"
)

// Suffix is what Compress adds to a log's name.
const Suffix = ".zst"

// compressWindow is how far back the compression looks, in bytes. Lines of a log
// are like those shortly before them; the default of 8 MiB takes some 30 MiB of
// memory.
const compressWindow = 1 << 20

// Compress replaces the log at path, which must not be open, by a
// compressed one next to it, path + Suffix. Open opens either. A crash leaves
// the one or the other, or both with the same content.
func Compress(path string) error {
	in, err := base.OpenRegular(path)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := renameio.NewPendingFile(path+Suffix, renameio.WithPermissions(0o600), renameio.WithTempDir(filepath.Dir(path)))
	if err != nil {
		return err
	}
	defer out.Cleanup()
	z, err := zstd.NewWriter(out, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(compressWindow))
	if err != nil {
		return err
	}
	if _, err := io.Copy(z, in); err != nil {
		return errors.Join(err, z.Close())
	}
	if err := z.Close(); err != nil {
		return err
	}
	if err := out.CloseAtomicallyReplace(); err != nil {
		return err
	}
	return os.Remove(path)
}

// openCompressed returns the content of a compressed log as a file that has no
// name any more.
func openCompressed(path string) (*os.File, error) {
	in, err := base.OpenRegular(path + Suffix)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	out, err := os.CreateTemp(filepath.Dir(path), ".log-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(out.Name()); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	if _, err := io.Copy(out, z); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	return out, nil
}
