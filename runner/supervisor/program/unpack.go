package program

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// maxProgram bounds an unpacked program, in bytes.
const maxProgram = 16 << 20

// unpacked returns what the running program holds. Its name says what is in it,
// so another version of the agent unpacks another file.
func (s Source) unpacked(context.Context) (Program, error) {
	packed := s.Tool.describe().packed
	if len(packed) == 0 {
		return Program{}, errors.New("it holds none, because it isn't a released one")
	}
	dir, err := s.dir()
	if err != nil {
		return Program{}, err
	}
	path := filepath.Join(dir, fmt.Sprintf("%s-%.8x", s.Tool, sha256.Sum256(packed)))
	text, err := unpack(packed)
	if err != nil {
		return Program{}, err
	}
	if there, err := os.ReadFile(path); err == nil && bytes.Equal(there, text) {
		return Program{Path: path}, nil
	}
	return Program{Path: path}, renameio.WriteFile(path, text, 0o755, renameio.IgnoreUmask(), renameio.WithTempDir(dir))
}

func unpack(packed []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(r, maxProgram))
	return text, errors.Join(err, r.Close())
}
