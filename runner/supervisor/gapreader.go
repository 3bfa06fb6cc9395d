package supervisor

import (
	"bytes"
	"errors"
	"io"
	"os"
)

// A gapReader looks at gaps.json, which the supervisor changes in place.
type gapReader struct {
	dir   *Dir
	file  *os.File
	freed int64
	text  []byte // as it was read last
	buf   []byte
}

// missing returns how much of the output was removed from offset on, before it
// goes on. A file that can't be read now is looked at again with the next piece.
func (r *gapReader) missing(offset int64) int64 {
	if r.file == nil {
		file, err := r.dir.Open(GapsFile)
		if err != nil {
			return 0
		}
		r.file, r.buf = file, make([]byte, gapsSize)
	}
	n, err := r.file.ReadAt(r.buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0
	}
	if text := r.buf[:n]; !bytes.Equal(text, r.text) {
		gaps, err := parseGaps(text)
		if err != nil {
			return 0
		}
		r.text, r.freed = bytes.Clone(text), gaps.Freed
	}
	// All before it is gone, whoever had read it.
	return max(0, r.freed-offset)
}

func (r *gapReader) close() error {
	if r.file == nil {
		return nil
	}
	err := r.file.Close()
	r.file = nil
	return err
}
