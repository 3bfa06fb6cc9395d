package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// savedResult is result.json: the report that goes to the server. Its data comes
// last, so that it is sent as it stands there.
type savedResult struct {
	Version     int            `json:"version"`
	Checked     bool           `json:"checked,omitempty"` // whether Data is as Checker.CheckResult left it
	CommandID   string         `json:"command_id"`
	Status      string         `json:"status"`
	ContainerID string         `json:"container_id"`
	Error       string         `json:"error"`
	Data        map[string]any `json:"result_data,omitempty"`
}

// writeResultFile encodes r into the file at path, which holds either what it
// held before or all of r, also after a power cut.
func writeResultFile(path string, r savedResult) error {
	f, err := renameio.NewPendingFile(path,
		renameio.WithPermissions(0o600), renameio.IgnoreUmask(), renameio.WithTempDir(filepath.Dir(path)))
	if err != nil {
		return err
	}
	defer f.Cleanup()
	enc := json.NewEncoder(f)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}

// A resultFile is result.json, open to be sent. Its data stays on disk.
type resultFile struct {
	file         *os.File
	saved        savedResult // without Data
	offset, size int64       // of the data's JSON text within the file; size is 0 where there is none

	model, engine, timestamp string // of the data, which tell it from other results; may be empty
}

// openResultFile opens the file at path and reads through it once. The error says
// what is wrong with it.
func openResultFile(path string) (*resultFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r := &resultFile{file: f}
	if err := r.scan(); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return r, nil
}

// scan reads the file, keeps what is small and finds the data.
func (r *resultFile) scan() error {
	s := jsonStream{json.NewDecoder(r.file)}
	s.dec.UseNumber() // any number that JSON has
	err := s.object(map[string]func() error{
		"checked":      s.boolean(&r.saved.Checked),
		"command_id":   s.text(&r.saved.CommandID),
		"status":       s.text(&r.saved.Status),
		"container_id": s.text(&r.saved.ContainerID),
		"error":        s.text(&r.saved.Error),
		"result_data": func() error {
			r.offset = s.dec.InputOffset() // a colon comes first, and maybe blanks
			err := s.object(map[string]func() error{
				"model":     s.text(&r.model),
				"engine":    s.text(&r.engine),
				"timestamp": s.text(&r.timestamp),
			})
			r.size = s.dec.InputOffset() - r.offset
			return err
		},
	})
	if err != nil {
		return err
	}
	if r.saved.CommandID == "" {
		return errors.New("it is no report")
	}
	return r.trim()
}

// trim leaves the colon and blanks before the data out of it, and data that is no
// object.
func (r *resultFile) trim() error {
	for b := make([]byte, 1); r.size > 0; r.offset, r.size = r.offset+1, r.size-1 {
		if _, err := r.file.ReadAt(b, r.offset); err != nil {
			return err
		}
		switch b[0] {
		case '{':
			return nil
		case ':', ' ', '\n', '\r', '\t':
		default:
			r.size = 0
			return nil
		}
	}
	return nil
}

// encoded returns the report with its data as it is on disk, until Close.
func (r *resultFile) encoded() EncodedResult {
	return EncodedResult{
		CommandID: r.saved.CommandID, Status: r.saved.Status, ContainerID: r.saved.ContainerID, Error: r.saved.Error,
		Data: io.NewSectionReader(r.file, r.offset, r.size), Size: r.size,
	}
}

// Close closes the file.
func (r *resultFile) Close() error { return r.file.Close() }
