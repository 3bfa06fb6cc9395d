package storage

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/renameio/v2"
	"github.com/zeebo/xxh3"
)

// A manifest says what a copy is. It is a file of JSON lines: this header first,
// then one line for each entry.
type manifest struct {
	Version    int       `json:"version"`
	Path       string    `json:"path"` // below the storage directory
	RawPath    []byte    `json:"raw_path,omitempty"`
	Source     string    `json:"source"`      // the share, as it is mounted
	SourcePath rawText   `json:"source_path"` // the model on it
	Copied     time.Time `json:"copied"`
	Took       float64   `json:"took_s"`
	Bytes      int64     `json:"bytes"`
	Files      int       `json:"files"`
	Hash       string    `json:"hash"`
	Piece      int64     `json:"piece"`          // a file's hash is that of the hashes of its pieces of this size
	Requests   []rawText `json:"requests"`       // names by which it was asked for
	Parents    []rawText `json:"parents"`        // directories that were made for it
	Inode      uint64    `json:"inode"`          // of the copy itself
	File       rawText   `json:"file,omitempty"` // one of its files, if it is a directory that has any
	FileInode  uint64    `json:"file_inode,omitempty"`
	Boot       string    `json:"boot"` // the start of the machine that it was made in

	lastUsed time.Time
}

// An item is one entry of a copy.
type item struct {
	Path    string    `json:"p,omitempty"`
	RawPath []byte    `json:"b,omitempty"`
	Kind    entryKind `json:"k"`
	Size    int64     `json:"s,omitempty"`
	MTime   int64     `json:"m,omitempty"`
	Hash    string    `json:"h,omitempty"` // empty for a file that shares the blocks of the share's
	Link    rawText   `json:"l,omitempty"` // text of a symbolic link, or the path of the item that a hard link shares its file with
}

func packPath(p string) (string, []byte) {
	if utf8.ValidString(p) {
		return p, nil
	}
	return "", []byte(p)
}

func unpackPath(p string, raw []byte) string {
	if len(raw) > 0 {
		return string(raw)
	}
	return p
}

const maxHeader = 1 << 20

func (p *place) manifestPath(key string) string { return p.own("copies", key+".jsonl") }

func (p *place) syncedPath(rel string) string { return p.own("copies", keyOf(rel)+".synced") }

// writeManifest writes what was copied.
func (p *place) writeManifest(m *manifest, c *copying) (err error) {
	file, err := renameio.NewPendingFile(p.manifestPath(keyOf(m.Path)), renameio.WithStaticPermissions(0o644))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Cleanup()) }()
	w := bufio.NewWriter(file)
	enc := json.NewEncoder(w)
	head := *m
	head.Path, head.RawPath = packPath(m.Path)
	if err := enc.Encode(head); err != nil {
		return err
	}
	linked := map[string]int64{} // times of files with several names
	for i := range c.tree.entries {
		if e := &c.tree.entries[i]; e.kind == kindHardlink {
			linked[e.link] = 0
		}
	}
	for _, f := range c.files {
		if _, ok := linked[f.path]; ok {
			linked[f.path] = f.kept
		}
	}
	files := c.files // in the order of the entries
	for i := range c.tree.entries {
		e := &c.tree.entries[i]
		it := item{Kind: e.kind, Link: rawText(e.link)}
		it.Path, it.RawPath = packPath(e.path)
		switch e.kind {
		case kindHardlink:
			it.Size, it.MTime = e.size, linked[e.link]
		case kindFile:
			it.Size, it.MTime = e.size, files[0].kept
			if !files[0].cloned {
				it.Hash = files[0].sum().String()
			}
			files = files[1:]
		}
		if err := enc.Encode(it); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return file.CloseAtomicallyReplace()
}

// modelHash is the hash of a whole model: of its files' paths, sizes and hashes.
// It is empty if a file was not read.
func modelHash(files []*copyFile) string {
	h := xxh3.New()
	for _, f := range files {
		if f.cloned {
			return ""
		}
		fmt.Fprintf(h, "%q %d %s\n", f.path, f.size, f.sum()) // cannot fail
	}
	return "xxh3-128:" + hash(h.Sum128().Bytes()).String()
}

// readManifest reads a manifest's header and hands its items to each, if it is
// set, until that returns an error.
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
	m.Path = unpackPath(m.Path, m.RawPath)
	if m.Version != 1 || !cleanRel(m.Path) || reserved(m.Path) || m.Piece < minPiece || m.Piece > maxPiece {
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
		var it item
		if err := json.Unmarshal(line, &it); err != nil {
			return nil, fmt.Errorf("%w: %w", errManifest, err)
		}
		it.Path = unpackPath(it.Path, it.RawPath)
		if it.Path != "." && !cleanRel(it.Path) || it.Kind > kindHardlink || it.Size < 0 {
			return nil, errManifest
		}
		if err := each(it); err != nil {
			return nil, err
		}
	}
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

// cleanRel reports whether p is a relative path in its shortest form that leads
// downwards.
func cleanRel(p string) bool {
	return p != "" && p != "." && p != ".." && !strings.HasPrefix(p, "/") && !strings.HasPrefix(p, "../") &&
		path.Clean(p) == p && !strings.ContainsRune(p, 0)
}

// copyAt returns the manifest of our copy at rel, or nil if there is none: no
// manifest, or something else in the copy's place.
func (p *place) copyAt(rel string) (*manifest, error) {
	m, err := readManifest(p.manifestPath(keyOf(rel)), nil)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errManifest) || errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if m.Path != rel || !p.holds(m) {
		return nil, nil
	}
	return m, nil
}

// holds reports whether m's copy is where m says. An overlayfs of layers on
// several disks numbers its directories anew once in a while, but not its files.
func (p *place) holds(m *manifest) bool {
	info, err := p.root.Lstat(m.Path)
	if err != nil || info.Mode()&fs.ModeSymlink != 0 {
		return false
	}
	if metaOf(info).ino == m.Inode || m.FileInode == 0 {
		return metaOf(info).ino == m.Inode
	}
	file, err := p.root.Lstat(path.Join(m.Path, string(m.File)))
	return err == nil && metaOf(file).ino == m.FileInode
}

// copyAround returns the copy that rel is, or is inside of.
func (p *place) copyAround(rel string) (*manifest, error) {
	for at := rel; at != "."; at = path.Dir(at) {
		m, err := p.copyAt(at)
		if m != nil || err != nil {
			return m, err
		}
	}
	return nil, nil
}

// copies lists our copies by path.
func (p *place) copies() ([]*manifest, error) {
	names, err := os.ReadDir(p.own("copies"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []*manifest
	for _, d := range names {
		if !strings.HasSuffix(d.Name(), ".jsonl") {
			continue
		}
		m, err := readManifest(p.own("copies", d.Name()), nil)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errManifest) || errors.Is(err, io.EOF) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if keyOf(m.Path)+".jsonl" == d.Name() && p.holds(m) {
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b *manifest) int { return strings.Compare(a.Path, b.Path) })
	return all, nil
}

// touch notes that a copy is used now.
func (p *place) touch(rel string) error {
	now := time.Now()
	return os.Chtimes(p.manifestPath(keyOf(rel)), now, now)
}

// errForeign says that a copy is no longer what was copied.
var errForeign = errors.New("it was changed since it was copied")

// untouched makes sure that a copy holds what was copied and nothing else. The
// content of files may have changed if the copy is damaged.
func (p *place) untouched(ctx context.Context, m *manifest, damaged bool) error {
	items := map[string]item{}
	_, err := readManifest(p.manifestPath(keyOf(m.Path)), func(it item) error {
		items[it.Path] = it
		return nil
	})
	if err != nil {
		return err
	}
	top := p.abs(m.Path)
	return filepath.WalkDir(top, func(at string, d fs.DirEntry, err error) error {
		if err == nil && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(top, at)
		if err != nil {
			return err
		}
		it, ok := items[rel]
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case !ok:
			return fmt.Errorf("%q was put there by somebody else", rel)
		case it.Kind == kindDir && d.IsDir(), it.Kind == kindSymlink && d.Type() == fs.ModeSymlink:
			return nil
		case (it.Kind == kindFile || it.Kind == kindHardlink) && d.Type().IsRegular() &&
			(damaged || info.Size() == it.Size && info.ModTime().UnixNano() == it.MTime):
			return nil
		}
		return fmt.Errorf("%q: %w", rel, errForeign)
	})
}

// rehash reads a whole copy and returns the paths of files that are not what
// was copied. Files without a hash are held against their size alone.
func (p *place) rehash(ctx context.Context, m *manifest, progress func(int64)) (damaged []string, err error) {
	buffer := make([]byte, directBlock)
	_, err = readManifest(p.manifestPath(keyOf(m.Path)), func(it item) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if it.Kind != kindFile {
			ok, err := p.linked(m, it)
			if !ok && err == nil {
				damaged = append(damaged, it.Path)
			}
			return err
		}
		sum, size, err := hashFile(ctx, p.root, path.Join(m.Path, it.Path), m.Piece, buffer, it.Hash == "", progress)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			damaged = append(damaged, it.Path)
		case err != nil:
			return err
		case size != it.Size, it.Hash != "" && sum.String() != it.Hash:
			damaged = append(damaged, it.Path)
		}
		return nil
	})
	return damaged, err
}

// linked reports whether a link is there and leads where it should; what is no
// link passes.
func (p *place) linked(m *manifest, it item) (bool, error) {
	if it.Kind == kindDir {
		return true, nil
	}
	at := path.Join(m.Path, it.Path)
	info, err := p.root.Lstat(at)
	if errors.Is(err, fs.ErrNotExist) || err == nil && (info.Mode()&fs.ModeSymlink != 0) != (it.Kind == kindSymlink) {
		return false, nil
	}
	if err != nil || it.Link == "" { // an older manifest doesn't say
		return true, err
	}
	if it.Kind == kindSymlink {
		text, err := p.root.Readlink(at)
		return text == string(it.Link), err
	}
	first, err := p.root.Lstat(path.Join(m.Path, string(it.Link)))
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil // that one is missing
	}
	return err == nil && os.SameFile(info, first), err
}

// hashFile hashes a file as the copy engine does.
func hashFile(ctx context.Context, root *os.Root, rel string, piece int64, buffer []byte, sizeOnly bool, progress func(int64)) (sum hash, size int64, err error) {
	file, err := root.Open(rel)
	if err != nil {
		return sum, 0, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil || sizeOnly {
		return sum, info.Size(), err
	}
	size = info.Size()
	hashes := make([]hash, 0, pieces(size, piece))
	for off := int64(0); off < size; off += piece {
		h := xxh3.New()
		part := io.NewSectionReader(file, off, min(piece, size-off))
		n, err := io.CopyBuffer(h, contextReader{ctx, part}, buffer)
		if err != nil {
			return sum, 0, err
		}
		progress(n)
		hashes = append(hashes, h.Sum128().Bytes())
	}
	return joinHashes(hashes), size, nil
}
