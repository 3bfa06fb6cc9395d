package storage

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/kirizan/kitt-agent/storage/internal/beneath"
)

// A claim is a copy that is being made, or that was abandoned.
type claim struct {
	Path rawText `json:"path"`           // below the storage directory
	Left int64   `json:"left"`           // bytes that it still needs on disk
	Done int64   `json:"done"`           // bytes that are copied
	Size int64   `json:"size"`           // of the whole model
	Made int     `json:"made,omitempty"` // how many of the directories above it were made for copies
}

// rel returns the path.
func (c claim) rel() string { return string(c.Path) }

// parents are the directories above the copy that were made for copies, the
// innermost first.
func (c claim) parents() (dirs []rawText) {
	for dir := path.Dir(c.rel()); dir != "." && len(dirs) < c.Made; dir = path.Dir(dir) {
		dirs = append(dirs, rawText(dir))
	}
	return dirs
}

const maxClaim = 64 << 10

// writeClaim overwrites a claim. It isn't synced: what a power cut loses is only
// an estimate of space.
func writeClaim(file *os.File, c claim) error {
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if _, err := file.WriteAt(data, 0); err != nil {
		return err
	}
	return file.Truncate(int64(len(data)))
}

func readClaim(file *os.File) (claim, bool) {
	data := make([]byte, maxClaim)
	n, _ := file.ReadAt(data, 0) // usually ends early
	return parseClaim(data[:n])
}

// parseClaim reads a claim. A crash may have left the end of a longer one after
// it.
func parseClaim(data []byte) (c claim, ok bool) {
	err := json.NewDecoder(bytes.NewReader(data)).Decode(&c)
	return c, err == nil && beneath.IsClean(c.rel()) && !reserved(c.rel())
}

// A claimStore is the directory of claims.
type claimStore struct{ dir string }

func (s claimStore) path(rel string) string { return filepath.Join(s.dir, keyOf(rel)) }

// list lists the copies that agents are making, and the abandoned ones, but not
// the one at except.
func (s claimStore) list(except string) (running, abandoned []claim, err error) {
	names, err := readDir(s.dir)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range names {
		if e.Name() == keyOf(except) {
			continue
		}
		c, free, err := s.read(e.Name())
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, nil, err
		case keyOf(c.rel()) != e.Name(): // not a claim
		case free:
			abandoned = append(abandoned, c)
		default:
			running = append(running, c)
		}
	}
	return running, abandoned, nil
}

// read reads the claim in a file. It returns a zero claim if the file has none.
func (s claimStore) read(name string) (c claim, free bool, err error) {
	file, err := os.OpenFile(filepath.Join(s.dir, name), os.O_RDWR, 0)
	if err != nil {
		return c, false, err
	}
	free, err = isUnlocked(file)
	c, ok := readClaim(file)
	if !ok {
		c = claim{}
	}
	return c, free, errors.Join(err, file.Close())
}
