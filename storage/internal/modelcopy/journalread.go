package modelcopy

import (
	"bufio"
	"encoding/json"
	"io"
	"unicode/utf8"
)

// A record is one line of a journal.
type record struct {
	Version int    `json:"v,omitempty"`     // first line: 1
	Piece   int64  `json:"piece,omitempty"` // first line: size of a piece
	File    int    `json:"f,omitempty"`     // number of the file that the line is about, from 1
	Path    string `json:"p,omitempty"`     // path of a file that begins here
	RawPath []byte `json:"b,omitempty"`     // the same if it isn't UTF-8
	Size    int64  `json:"s,omitempty"`
	MTime   int64  `json:"m,omitempty"`
	CTime   int64  `json:"c,omitempty"`
	At      int    `json:"k,omitempty"` // number of a piece that is complete
	Hash    string `json:"h,omitempty"` // its hash
	Forget  bool   `json:"x,omitempty"` // the file has to be copied from its beginning
}

// A journalled file is what an earlier run had of a file.
type journalled struct {
	size, mtime, ctime int64
	pieces             map[int]hash
}

// maxJournal bounds what is read of a journal, in bytes; one piece takes about
// 60.
const maxJournal = 1 << 30

// readJournal reads a journal and ignores torn lines. piece is 0 if the first line
// is not valid.
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
			if rec.Version != 1 || rec.Piece < MinPiece || rec.Piece > MaxPiece || rec.Piece&(rec.Piece-1) != 0 {
				return 0, map[string]*journalled{}, 0
			}
			piece = rec.Piece
			continue
		}
		switch {
		case rec.File <= 0:
		case rec.Path != "" || len(rec.RawPath) > 0:
			name := UnpackPath(rec.Path, rec.RawPath)
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

// PackPath returns a path for two fields of JSON: as text, or as bytes if it
// isn't UTF-8.
func PackPath(p string) (text string, raw []byte) {
	if utf8.ValidString(p) {
		return p, nil
	}
	return "", []byte(p)
}

// UnpackPath undoes [PackPath].
func UnpackPath(text string, raw []byte) string {
	if len(raw) > 0 {
		return string(raw)
	}
	return text
}
