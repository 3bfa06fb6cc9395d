package slurm

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// Install copies a program to the directory bin below dir, where nodes find it, and
// returns the path of the copy. Its name holds a hash of its content: a program of
// another version is another file, so that jobs of an older agent keep theirs.
func Install(dir, program string) (path string, err error) {
	in, err := os.Open(program)
	if err != nil {
		return "", err
	}
	defer in.Close()
	hash := sha256.New()
	size, err := io.Copy(hash, in)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", program, err)
	}
	bin := filepath.Join(dir, "bin")
	path = filepath.Join(bin, fmt.Sprintf("%s-%.12x", filepath.Base(program), hash.Sum(nil)))
	if info, err := os.Stat(path); err == nil && info.Size() == size {
		return path, nil
	}
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return "", err
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	out, err := renameio.NewPendingFile(path, renameio.WithTempDir(bin), renameio.WithPermissions(0o755), renameio.IgnoreUmask())
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, out.Cleanup()) }()
	if _, err := io.Copy(out, in); err != nil {
		return "", fmt.Errorf("copy %s to %s: %w", program, path, err)
	}
	return path, out.CloseAtomicallyReplace()
}
