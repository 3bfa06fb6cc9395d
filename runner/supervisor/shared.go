package supervisor

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/kirizan/kitt-agent/internal/base"
)

// Names of the files that only a shared run has; see [Shared].
const (
	AliveFile  = "alive.json"
	CancelFile = "cancel"
)

// askedByCancel is Exit.Asked where CancelFile asked.
const askedByCancel = "cancel"

// An Alive is the file alive.json, by which other machines see that a run goes on. It
// is changed in place, so that who has opened it before sees it too.
type Alive struct {
	Version int   `json:"version"`
	Beat    int64 `json:"beat"`           // grows while the supervisor lives
	Output  int64 `json:"output"`         // size of the output, in bytes
	Done    bool  `json:"done"`           // whether nothing of the run lives but its supervisor, which is about to exit
	Exit    *Exit `json:"exit,omitempty"` // as in exit.json, a new file that may be seen late
}

func (a Alive) version() int { return a.Version }

// aliveSize is the size of alive.json in bytes, blanks included.
const aliveSize = 4096

func (a Alive) encode() ([]byte, error) {
	text, err := encode(a)
	if err == nil && len(text) > aliveSize && a.Exit != nil {
		a.Exit = nil // exit.json has it
		return a.encode()
	}
	if err == nil && len(text) > aliveSize {
		err = fmt.Errorf("%s has %d bytes", AliveFile, len(text))
	}
	if err != nil {
		return nil, err
	}
	return append(text, bytes.Repeat([]byte{' '}, aliveSize-len(text))...), nil
}

// Alive returns what the supervisor of a shared run has shown last. That it has shown
// nothing is no error. A file that is just being changed may not be readable.
func (d *Dir) Alive() (a Alive, found bool, err error) {
	text, err := d.read(AliveFile)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(text) == 0 {
		return a, false, nil
	}
	if err == nil {
		a, err = decode[Alive](AliveFile, text)
	}
	a.Output = max(0, a.Output)
	if a.Exit != nil {
		end := a.Exit.plausible()
		a.Exit = &end
	}
	return a, err == nil, err
}

// Prepare makes the files of a shared run that both sides look at all the time, empty,
// before the run is submitted: a machine that has seen a file sees at once that it has
// changed, but may take a minute to see a new one.
func Prepare(dir string) error {
	for _, name := range []string{CancelFile, AliveFile, OutputFile, IndexFile} {
		f, err := create(filepath.Join(dir, name), 0)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return base.SyncDir(dir)
}

// Cancel asks the supervisor of a shared run to end it, or not to begin it.
func Cancel(dir string) error {
	f, err := create(filepath.Join(dir, CancelFile), 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte("cancelled\n"), 0)
	return errors.Join(err, f.Sync(), f.Close())
}

// Cancelled reports whether Cancel was called. It opens the file, because NFS shows what
// others have written to a file when that is opened.
func Cancelled(dir string) bool {
	f, err := os.Open(filepath.Join(dir, CancelFile))
	if err != nil {
		return false
	}
	defer f.Close()
	var b [1]byte
	_, err = io.ReadFull(f, b[:])
	return err == nil
}
