package modelcopy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
)

// A journal lists which pieces of which files a staging directory holds, so that
// an interrupted copy resumes where it stopped.
type journal struct {
	piece int64
	old   map[string]*journalled // what earlier runs had
	file  *os.File

	mu      sync.Mutex
	last    int        // number of the last file in the journal; guarded by mu
	lines   []byte     // not yet in the file; guarded by mu
	spare   []byte     // memory for the next lines; guarded by mu
	pending int64      // bytes of the model that lines are about; guarded by mu
	writing bool       // a goroutine writes lines to file; guarded by mu
	written *sync.Cond // signalled when writing becomes false
	err     error      // of the first failed write; guarded by mu
}

// maxPending is how many bytes of lines wait before they are written. While a
// write is in progress, the lines of pieces that end meanwhile wait as well.
const maxPending = 16 << 10

// openJournal opens or creates the journal at path. piece is the size of the
// pieces if it is created.
func openJournal(path string, piece int64) (*journal, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	j := &journal{file: file}
	j.written = sync.NewCond(&j.mu)
	if err := j.begin(piece); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return j, nil
}

// begin reads what earlier runs wrote, or writes the first line.
func (j *journal) begin(piece int64) error {
	j.piece, j.old, j.last = readJournal(io.LimitReader(j.file, maxJournal))
	if j.piece != 0 {
		_, err := j.file.WriteString("\n") // ends a torn line
		return err
	}
	j.piece = piece
	if err := j.file.Truncate(0); err != nil {
		return err
	}
	line, err := json.Marshal(record{Version: 1, Piece: piece})
	if err != nil {
		return err
	}
	_, err = j.file.Write(append(line, '\n'))
	return err
}

// had returns what earlier runs had of the file, or nil if it has changed.
func (j *journal) had(e *entry) *journalled {
	old := j.old[e.path]
	if old == nil || old.size != e.size || old.mtime != e.mtime || old.ctime != e.ctime {
		return nil
	}
	return old
}

// add records that a piece of a file, of size bytes, is complete. A crash loses
// records of about one piece of the usual size.
func (j *journal) add(f *fileCopy, at int, size int64, h hash) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var recs []record
	if f.number == 0 {
		j.last++
		f.number = int32(j.last)
		rec := record{File: j.last, Size: f.size, MTime: f.mtime, CTime: f.ctime}
		rec.Path, rec.RawPath = PackPath(f.path)
		recs = append(recs, rec)
	}
	err := j.appendLocked(append(recs, record{File: int(f.number), At: at, Hash: h.String()})...)
	if j.pending += size; err == nil && (j.pending >= j.piece || len(j.lines) >= maxPending) {
		err = j.flushLocked()
	}
	if err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	return nil
}

// invalidate records that a file has to be copied from its beginning.
func (j *journal) invalidate(f *fileCopy) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if f.number == 0 {
		return nil
	}
	if err := j.appendLocked(record{File: int(f.number), Forget: true}); err != nil {
		return err
	}
	return j.drainLocked()
}

// close writes the waiting lines and closes the file. It may be called twice.
func (j *journal) close() error {
	j.mu.Lock()
	err := j.drainLocked()
	j.mu.Unlock()
	if err := errors.Join(err, j.file.Close()); err != nil && !errors.Is(err, fs.ErrClosed) {
		return err
	}
	return nil
}

// appendLocked adds lines to those that wait. j.mu must be held.
func (j *journal) appendLocked(recs ...record) error {
	for _, rec := range recs {
		line, err := json.Marshal(rec)
		if err != nil {
			return err
		}
		j.lines = append(append(j.lines, line...), '\n')
	}
	return nil
}

// flushLocked writes the waiting lines, in their order. It releases j.mu while it
// writes. If another goroutine is writing, that one writes these lines, too, and
// flushLocked returns at once. j.mu must be held.
func (j *journal) flushLocked() error {
	if j.writing {
		return j.err
	}
	j.writing = true
	for len(j.lines) > 0 && j.err == nil {
		lines := j.lines
		j.lines, j.spare, j.pending = j.spare[:0], nil, 0
		j.mu.Unlock()
		_, err := j.file.Write(lines)
		j.mu.Lock()
		j.spare, j.err = lines[:0], err
	}
	j.writing = false
	j.written.Broadcast()
	return j.err
}

// drainLocked returns when all lines are in the file. It releases j.mu meanwhile.
// j.mu must be held.
func (j *journal) drainLocked() error {
	for j.writing {
		j.written.Wait()
	}
	return j.flushLocked()
}
