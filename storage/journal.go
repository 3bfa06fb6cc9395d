package storage

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
)

// A hash is an XXH3-128 of a piece, or of the hashes of pieces.
type hash [16]byte

func (h hash) String() string { return hex.EncodeToString(h[:]) }

func parseHash(text string) (h hash, ok bool) {
	if len(text) != 2*len(h) {
		return h, false
	}
	_, err := hex.Decode(h[:], []byte(text))
	return h, err == nil
}

// Bounds of a piece, which is what is hashed, and kept or copied again, as a
// whole. Sizes are powers of two.
const (
	minPiece = 16 << 10
	maxPiece = 4 << 20
)

// pieceFor returns the size of the pieces of a model. It is so small that what
// all the workers have in hand when they are killed is a fortieth of the model.
func pieceFor(bytes int64, workers int) int64 {
	piece := int64(minPiece)
	for piece < maxPiece && piece*2*int64(workers)*40 <= bytes {
		piece *= 2
	}
	return piece
}

// pieces returns how many pieces a file has.
func pieces(size, piece int64) int { return int((size + piece - 1) / piece) }

// A record is one line of a journal.
type record struct {
	Version int    `json:"v,omitempty"`     // first line: 1
	Piece   int64  `json:"piece,omitempty"` // first line: size of a piece
	File    int    `json:"f,omitempty"`     // number of the file that the line is about, from 1
	Path    string `json:"p,omitempty"`     // a file that is begun
	RawPath []byte `json:"b,omitempty"`     // the same if it isn't UTF-8
	Size    int64  `json:"s,omitempty"`
	MTime   int64  `json:"m,omitempty"`
	CTime   int64  `json:"c,omitempty"`
	At      int    `json:"k,omitempty"` // number of a piece that is whole
	Hash    string `json:"h,omitempty"` // its hash
	Forget  bool   `json:"x,omitempty"` // the file is to be copied anew
}

// A journalled file is what an earlier run had of a file.
type journalled struct {
	size, mtime, ctime int64
	pieces             map[int]hash
}

// A journal says which pieces of which files a staging directory holds, so that
// an interrupted copy goes on where it was. Nothing in it is believed without a
// look: a piece counts only if what is on disk has its hash.
type journal struct {
	piece int64
	old   map[string]*journalled // what earlier runs had

	mu      sync.Mutex
	file    *os.File
	last    int    // number of the last file that was begun
	lines   []byte // not yet in the file
	pending int64  // bytes of the model that they are about
}

// maxPending bounds the lines that wait to be written.
const maxPending = 16 << 10

// maxJournal bounds what is read of a journal; one piece takes about 60 bytes.
const maxJournal = 1 << 30

// openJournal opens or begins the journal at path. piece is the size of the
// pieces if it is begun.
func openJournal(path string, piece int64) (*journal, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	j := &journal{file: file}
	j.piece, j.old, j.last = readJournal(io.LimitReader(file, maxJournal))
	if j.piece == 0 {
		j.piece = piece
		if err := file.Truncate(0); err != nil {
			return nil, errors.Join(err, file.Close())
		}
		if err := j.write(record{Version: 1, Piece: piece}); err != nil {
			return nil, errors.Join(err, file.Close())
		}
	} else if _, err := file.WriteString("\n"); err != nil { // ends a torn line
		return nil, errors.Join(err, file.Close())
	}
	return j, nil
}

// readJournal reads what is whole of a journal. piece is 0 if nothing is.
func readJournal(r io.Reader) (piece int64, old map[string]*journalled, last int) {
	old = map[string]*journalled{}
	names := map[int]string{}
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), 64<<10)
	for lines.Scan() {
		var rec record
		if len(lines.Bytes()) == 0 || json.Unmarshal(lines.Bytes(), &rec) != nil {
			continue // torn by a crash
		}
		if piece == 0 {
			if rec.Version != 1 || rec.Piece < minPiece || rec.Piece > maxPiece || rec.Piece&(rec.Piece-1) != 0 {
				return 0, map[string]*journalled{}, 0
			}
			piece = rec.Piece
			continue
		}
		switch {
		case rec.File <= 0:
		case rec.Path != "" || len(rec.RawPath) > 0:
			name := rec.Path
			if name == "" {
				name = string(rec.RawPath)
			}
			names[rec.File] = name
			old[name] = &journalled{size: rec.Size, mtime: rec.MTime, ctime: rec.CTime, pieces: map[int]hash{}}
			last = max(last, rec.File)
		case rec.Forget:
			delete(old, names[rec.File])
		default:
			h, ok := parseHash(rec.Hash)
			file := old[names[rec.File]]
			if ok && file != nil && rec.At >= 0 && int64(rec.At)*piece < file.size {
				file.pieces[rec.At] = h
			}
		}
	}
	return piece, old, last
}

// write writes whole lines at once, with those that wait.
func (j *journal) write(recs ...record) error {
	if err := j.hold(recs...); err != nil {
		return err
	}
	return j.flush()
}

// hold adds lines to those that wait.
func (j *journal) hold(recs ...record) error {
	for _, rec := range recs {
		line, err := json.Marshal(rec)
		if err != nil {
			return err
		}
		j.lines = append(append(j.lines, line...), '\n')
	}
	return nil
}

func (j *journal) flush() error {
	lines := j.lines
	j.lines, j.pending = lines[:0], 0
	if len(lines) == 0 {
		return nil
	}
	_, err := j.file.Write(lines)
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

// add notes that a piece of a file, of size bytes, is whole. A crash forgets
// notes that make up less than one piece of the usual size.
func (j *journal) add(f *copyFile, at int, size int64, h hash) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var recs []record
	if f.number == 0 {
		j.last++
		f.number = int32(j.last)
		rec := record{File: j.last, Size: f.size, MTime: f.mtime, CTime: f.ctime}
		rec.Path, rec.RawPath = packPath(f.path)
		recs = append(recs, rec)
	}
	err := j.hold(append(recs, record{File: int(f.number), At: at, Hash: h.String()})...)
	if j.pending += size; err == nil && (j.pending >= j.piece || len(j.lines) >= maxPending) {
		err = j.flush()
	}
	if err != nil {
		return fmt.Errorf("note progress: %w", err)
	}
	return nil
}

// forget notes that a file is to be copied anew.
func (j *journal) forget(f *copyFile) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if f.number == 0 {
		return nil
	}
	return j.write(record{File: int(f.number), Forget: true})
}

func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := errors.Join(j.flush(), j.file.Close()); err != nil && !errors.Is(err, fs.ErrClosed) {
		return err
	}
	return nil
}
