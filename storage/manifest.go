package storage

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/kirizan/kitt-agent/storage/internal/beneath"
	"github.com/kirizan/kitt-agent/storage/internal/modelcopy"
)

// A manifest describes a copy. It is a file of JSON lines: this header first, then
// one line for each entry.
type manifest struct {
	Version    int       `json:"version"`
	Path       string    `json:"path"` // below the storage directory
	RawPath    []byte    `json:"raw_path,omitempty"`
	Source     string    `json:"source"`      // the share, as it is mounted
	SourcePath rawText   `json:"source_path"` // the model on it
	Copied     time.Time `json:"copied"`
	Took       float64   `json:"took_s"`
	Bytes      int64     `json:"bytes"`
	Shared     int64     `json:"shared,omitempty"` // bytes that take no space of their own; see modelcopy.Result
	Print      string    `json:"print,omitempty"`  // of the model's scan, to tell whether it has changed
	Files      int       `json:"files"`
	Hash       string    `json:"hash"`
	Piece      int64     `json:"piece"`          // a file's hash is that of the hashes of its pieces of this size
	Main       rawText   `json:"main,omitempty"` // the file that an engine is given, if the model is several files
	Requests   []rawText `json:"requests"`       // names by which it was requested
	Parents    []rawText `json:"parents"`        // directories that were made for it
	Inode      uint64    `json:"inode"`          // of the copy itself
	File       rawText   `json:"file,omitempty"` // one of its files, if it is a directory that has any
	FileInode  uint64    `json:"file_inode,omitempty"`
	Boot       string    `json:"boot"` // the boot of the machine that it was made in

	lastUsed time.Time
}

// onDisk returns how many bytes the removal of the copy frees while the original is
// there.
func (m *manifest) onDisk() int64 { return m.Bytes - m.Shared }

// An item is one entry of a copy.
type item struct {
	Path    string         `json:"p,omitempty"`
	RawPath []byte         `json:"b,omitempty"`
	Kind    modelcopy.Kind `json:"k"`
	Size    int64          `json:"s,omitempty"`
	MTime   int64          `json:"m,omitempty"`
	Hash    string         `json:"h,omitempty"` // empty for a file that shares blocks with the share's
	Link    rawText        `json:"l,omitempty"` // text of a symbolic link, or the path of the item that a hard link shares its file with
}

const maxHeader = 1 << 20

// writeManifest writes the manifest of a copy.
func writeManifest(to io.Writer, m *manifest, copied *modelcopy.Result) error {
	w := bufio.NewWriter(to)
	enc := json.NewEncoder(w)
	head := *m
	head.Path, head.RawPath = modelcopy.PackPath(m.Path)
	if err := enc.Encode(head); err != nil {
		return err
	}
	for e := range copied.Items() {
		it := item{Kind: e.Kind, Size: e.Size, MTime: e.MTime, Hash: e.Hash, Link: rawText(e.Link)}
		it.Path, it.RawPath = modelcopy.PackPath(e.Path)
		if err := enc.Encode(it); err != nil {
			return err
		}
	}
	return w.Flush()
}

// readManifest reads a manifest's header. If each is set it gets the items, until
// it returns an error.
func readManifest(name string, each func(item) error) (m *manifest, err error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	m, err = parseManifest(file, each)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	m.lastUsed = info.ModTime()
	return m, nil
}

var errManifest = errors.New("not a manifest")

func parseManifest(r io.Reader, each func(item) error) (*manifest, error) {
	lines := bufio.NewReaderSize(r, 64<<10)
	first, err := readLine(lines)
	if err != nil {
		return nil, err
	}
	m := new(manifest)
	if err := json.Unmarshal(first, m); err != nil {
		return nil, fmt.Errorf("%w: %w", errManifest, err)
	}
	m.Path = modelcopy.UnpackPath(m.Path, m.RawPath)
	if m.Version != 1 || !beneath.IsClean(m.Path) || reserved(m.Path) || m.Piece < modelcopy.MinPiece || m.Piece > modelcopy.MaxPiece {
		return nil, errManifest
	}
	if each == nil {
		return m, nil
	}
	for {
		line, err := readLine(lines)
		if errors.Is(err, io.EOF) {
			return m, nil
		}
		if err != nil {
			return nil, err
		}
		it, err := parseItem(line)
		if err != nil {
			return nil, err
		}
		if err := each(it); err != nil {
			return nil, err
		}
	}
}

func parseItem(line []byte) (it item, err error) {
	if err := json.Unmarshal(line, &it); err != nil {
		return it, fmt.Errorf("%w: %w", errManifest, err)
	}
	it.Path = modelcopy.UnpackPath(it.Path, it.RawPath)
	if it.Path != "." && !beneath.IsClean(it.Path) || it.Kind > modelcopy.KindHardlink || it.Size < 0 {
		return it, errManifest
	}
	return it, nil
}

// readLine reads a line of at most maxHeader bytes.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > maxHeader:
			return nil, errManifest
		case err == nil, errors.Is(err, io.EOF) && len(line) > 0:
			return bytes.TrimSuffix(line, []byte{'\n'}), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}
