//go:build unix

package base

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// WriteJSON writes v as one line of JSON to path, with mode 0600. After a crash
// or a power cut the file holds either all of the new text or what it held
// before. It refuses a text of more than limit bytes with [ErrTooLarge]: give
// [ReadJSON] the same limit, so that what was written can be read back.
func WriteJSON(path string, v any, limit int64) error {
	text, err := EncodeJSON(v)
	if err != nil {
		return err
	}
	if int64(len(text)) > limit {
		return fmt.Errorf("%s: %w: %d bytes, at most %d are allowed", path, ErrTooLarge, len(text), limit)
	}
	return WriteFile(path, text)
}

// EncodeJSON returns v as one line of JSON. Texts keep their characters: with
// \u003c for each, a text of "<" would be six times as long.
func EncodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return b.Bytes(), err
}

// WriteFile puts a durable file with this text and mode 0600 at path in one step.
func WriteFile(path string, text []byte) error {
	// Without a directory renameio looks for one by making and renaming files in
	// several, which takes longer than the write.
	return renameio.WriteFile(path, text, 0o600, renameio.IgnoreUmask(), renameio.WithTempDir(filepath.Dir(path)))
}

// WritePrivate puts a durable file that only its owner can read at path in one step,
// also where there was one that others could read. It makes the directory if need be.
// A link stays a link: what it points to is replaced.
func WritePrivate(path string, text []byte) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	// Not renameio.WriteFile, which would keep the file's mode.
	pending, err := renameio.NewPendingFile(path, renameio.WithTempDir(dir), renameio.WithStaticPermissions(0o600))
	if err != nil {
		return err
	}
	defer pending.Cleanup()
	if _, err := pending.Write(text); err != nil {
		return err
	}
	if err := pending.CloseAtomicallyReplace(); err != nil {
		return err
	}
	return SyncDir(dir)
}
