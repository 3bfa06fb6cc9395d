package outbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/internal/base"
)

// savedResult is result.json: the report that goes to the server. Its data comes
// last, so that it is sent as it stands there.
type savedResult struct {
	Version     int             `json:"version"`
	Checked     bool            `json:"checked,omitempty"` // whether Data is as Checker.CheckResult left it
	CommandID   string          `json:"command_id"`
	Status      reporter.Status `json:"status"`
	ContainerID string          `json:"container_id"`
	Error       string          `json:"error"`
	Data        map[string]any  `json:"result_data,omitempty"`
}

// resultVersion is that of result.json. Keys are only added.
const resultVersion = 1

// SaveResult writes the report of a job that ended like that, so that it can be
// sent however long the server is away. checked says whether data is as a
// reporter.Checker returned it.
func SaveResult(j *jobs.Job, o jobs.Outcome, data map[string]any, checked bool) error {
	return writeResultFile(j.Path(jobs.ResultFile), savedResult{
		Version: resultVersion, Checked: checked,
		CommandID: j.Command.ID, Status: statusOf(o.State), ContainerID: o.ContainerID, Error: o.Error,
		Data: data,
	})
}

// ReadResult returns the report of a job that has ended, as [SaveResult] wrote it.
func ReadResult(j *jobs.Job) (reporter.Result, error) {
	return ReadResultFile(j.Path(jobs.ResultFile), math.MaxInt64)
}

// ReadResultFile returns the report in the file at path. It refuses data of more than
// limit bytes with [base.ErrTooLarge].
func ReadResultFile(path string, limit int64) (reporter.Result, error) {
	f, err := openResultFile(path)
	if err != nil {
		return reporter.Result{}, err
	}
	defer f.Close()
	if f.size > limit {
		return reporter.Result{}, fmt.Errorf("%s: %w: more than %d bytes of data", filepath.Base(path), base.ErrTooLarge, limit)
	}
	return f.encoded().Decode()
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

// A resultFile is an open result.json. Its data stays on disk.
type resultFile struct {
	file         *os.File
	saved        savedResult // without Data
	offset, size int64       // of the data's JSON text within the file; size is 0 where there is none

	model, engine, timestamp string // of the data, which tell it from other results; may be empty
}

// openResultFile opens the file at path and reads through it once. The error says
// what is wrong with it.
func openResultFile(path string) (*resultFile, error) {
	f, err := base.OpenRegular(path)
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
	s := base.NewJSONStream(r.file)
	err := s.Object(map[string]func() error{
		"checked":      s.Bool(&r.saved.Checked),
		"command_id":   s.Text(&r.saved.CommandID),
		"status":       s.Text((*string)(&r.saved.Status)),
		"container_id": s.Text(&r.saved.ContainerID),
		"error":        s.Text(&r.saved.Error),
		"result_data": func() error {
			r.offset = s.InputOffset() // a colon comes first, and maybe blanks
			err := s.Object(map[string]func() error{
				"model":     s.Text(&r.model),
				"engine":    s.Text(&r.engine),
				"timestamp": s.Text(&r.timestamp),
			})
			r.size = s.InputOffset() - r.offset
			return err
		},
	})
	if err != nil {
		return err
	}
	if r.saved.CommandID == "" {
		return errors.New("it is not a report")
	}
	return r.trim()
}

// trim excludes the colon and blanks before the data, and data that is not an
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

// encoded returns the report with its data as it is on disk. It is valid until
// Close.
func (r *resultFile) encoded() reporter.EncodedResult {
	return reporter.EncodedResult{
		CommandID: r.saved.CommandID, Status: r.saved.Status, ContainerID: r.saved.ContainerID, Error: r.saved.Error,
		Data: io.NewSectionReader(r.file, r.offset, r.size), Size: r.size,
	}
}

// Close closes the file.
func (r *resultFile) Close() error { return r.file.Close() }
