//go:build unix

package base

import (
	"encoding/json"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// WriteJSON writes v as one line of JSON to path, with mode 0600. After a crash
// or a power cut the file holds either all of the new text or what it held
// before.
func WriteJSON(path string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	// Without a directory renameio looks for one by making and renaming files in
	// several, which takes longer than the write.
	return renameio.WriteFile(path, append(text, '\n'), 0o600, renameio.IgnoreUmask(), renameio.WithTempDir(filepath.Dir(path)))
}
