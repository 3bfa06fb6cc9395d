package modelcopy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/zeebo/xxh3"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/storage/internal/beneath"
	"github.com/kirizan/kitt-agent/storage/internal/iofault"
	"github.com/kirizan/kitt-agent/storage/internal/modelset"
)

// Bounds of one model.
const (
	maxEntries = 2_000_000
	maxBytes   = 16 << 40 // apparent size: a sparse file may claim any, and each of its pieces takes memory
	maxDepth   = 100      // directories below each other
	scanBatch  = 32       // directories held open at once
	scanPart   = 2048     // names examined before they are put into the tree
)

// A scanner scans a whole model. It examines many files in parallel, which hides
// the share's latency.
type scanner struct {
	src    *Source
	model  string   // on the share, without links
	only   []string // names of the files in model that belong to it; nil for all
	timers []*OpTimer
	link   bool         // Options.Link
	again  bool         // a second scan, which keeps only the fingerprint
	note   func(string) // receives lines for the job's log

	hasher *xxh3.Hasher
	tree   tree
	count  int
	seen   map[[2]uint64]firstLink // files by device and inode, for hard links
	bySrc  map[string]firstLink    // files that were reached through links
}

// A scanDir is a directory to be read.
type scanDir struct {
	path  string
	src   string
	top   int // levels that a link in it may climb without leaving what is copied
	up    *scanDir
	id    [2]uint64
	depth int

	file  *os.File // open while its batch is read
	names []string
}

// A found is one name in a directory, and what the file system reports about it.
type found struct {
	dir    *scanDir
	name   string
	meta   meta
	text   string // of a symbolic link
	real   string // where a link that leaves the tree leads, without links
	target meta   // of the file there
	err    error
}

// scan scans a model. A second scan asks the server rather than the cache and returns no
// entries.
func scan(ctx context.Context, src *Source, o Options, timers []*OpTimer, again bool) (*tree, error) {
	rel := o.Model
	s := &scanner{src: src, model: rel, only: o.Files, link: o.Link, timers: timers, again: again, note: o.Note, hasher: xxh3.New(),
		seen: map[[2]uint64]firstLink{}, bySrc: map[string]firstLink{}}
	if again {
		s.note = func(string) {}
	}
	real, top, err := s.lookUpModel(timers[0])
	if err != nil {
		return nil, iofault.Explain("stat", rel, err)
	}
	switch {
	case top.mode.IsRegular() && s.only == nil:
		s.addFile(".", real, top)
	case top.mode.IsDir() && real == rel:
		s.put(entry{path: ".", stamp: top.stamp, kind: KindDir})
		first := &scanDir{path: ".", src: rel, id: [2]uint64{top.dev, top.ino}}
		if err := s.walk(ctx, first); err != nil {
			return nil, err
		}
	default:
		return nil, fault.New(iofault.Invalid, "name a directory or a file", "%q is neither a directory nor a file", rel)
	}
	slices.SortFunc(s.tree.entries, func(a, b entry) int { return strings.Compare(a.path, b.path) })
	return &s.tree, s.sum()
}

// lookUpModel returns where the model is, without links, and its metadata.
func (s *scanner) lookUpModel(t *OpTimer) (real string, top meta, err error) {
	real = s.model
	t.Begin(&opStat, &s.model)
	defer t.End()
	top, err = s.lstat(s.src.Folder, real)
	if err != nil || top.mode&fs.ModeSymlink == 0 {
		return real, top, err
	}
	if real, err = beneath.Resolve(s.src.Root, s.src.seenAt, s.model); err == nil {
		top, err = s.lstat(s.src.Folder, real)
		s.tree.linked = true
	}
	return real, top, err
}

func (s *scanner) lstat(at beneath.Folder, rel string) (meta, error) {
	m, err := lstatAt(at, rel, s.again)
	m.stamp = stampFor(s.link, m)
	return m, err
}

// sum adds up the files of the tree.
func (s *scanner) sum() error {
	for i := range s.tree.entries {
		e := &s.tree.entries[i]
		if e.kind != KindFile {
			continue
		}
		if e.size < 0 || e.size > maxBytes-s.tree.bytes {
			return fault.New(iofault.Invalid, "check the file on the share", "%q has more than %s with %q", s.model, base.Size(maxBytes), e.path)
		}
		s.tree.files++
		s.tree.bytes += e.size
	}
	return nil
}

func (s *scanner) put(e entry) {
	s.count++
	s.tree.print.add(s.hasher, &e)
	if !s.again {
		s.tree.entries = append(s.tree.entries, e)
	}
}

func (s *scanner) walk(ctx context.Context, first *scanDir) error {
	queue := []*scanDir{first}
	for len(queue) > 0 {
		n := min(len(queue), scanBatch)
		batch := queue[len(queue)-n:] // the last ones first: fewer directories wait
		queue = slices.Clone(queue[:len(queue)-n])
		more, err := s.readBatch(ctx, batch)
		if err != nil {
			return err
		}
		queue = append(queue, more...)
	}
	return nil
}

// readBatch reads the directories of batch and returns the directories in them.
func (s *scanner) readBatch(ctx context.Context, batch []*scanDir) (more []*scanDir, err error) {
	defer func() {
		for _, d := range batch {
			if d.file != nil {
				err = errors.Join(err, d.file.Close())
			}
		}
	}()
	err = parallel(ctx, s.timers, len(batch), func(t *OpTimer, i int) error { return s.list(t, batch[i]) })
	if err != nil {
		return nil, err
	}
	// In parts, so that a directory of any size takes little memory.
	part := make([]found, 0, scanPart)
	for _, d := range batch {
		for _, name := range d.names {
			if s.ignored(d, name) {
				continue
			}
			if part = append(part, found{dir: d, name: name}); len(part) < cap(part) {
				continue
			}
			if more, err = s.addAll(ctx, part, more); err != nil {
				return nil, err
			}
			part = part[:0]
		}
		d.names = nil
	}
	return s.addAll(ctx, part, more)
}

// ignored reports whether the name in d is not part of the model.
func (s *scanner) ignored(d *scanDir, name string) bool {
	if !modelset.Ignored(path.Join(d.path, name)) {
		return false
	}
	s.note(fmt.Sprintf("left out %q: not part of the model", path.Join(d.src, name)))
	return true
}

// addAll examines the names of part, puts them into the tree and appends the
// directories among them to dirs.
func (s *scanner) addAll(ctx context.Context, part []found, dirs []*scanDir) ([]*scanDir, error) {
	err := parallel(ctx, s.timers, len(part), func(t *OpTimer, i int) error { return s.examine(t, &part[i]) })
	if err != nil {
		return nil, err
	}
	for i := range part {
		d, err := s.add(&part[i])
		if err != nil {
			return nil, err
		}
		if d != nil {
			dirs = append(dirs, d)
		}
	}
	if s.count > maxEntries {
		return nil, tooMany(s.model)
	}
	return dirs, nil
}

func tooMany(rel string) error {
	return fault.New(iofault.Invalid, "name one model rather than a directory of many", "%q has more than %d files", rel, maxEntries)
}

// list reads the names in d.
func (s *scanner) list(t *OpTimer, d *scanDir) error {
	t.Begin(&opList, &d.src)
	defer t.End()
	file, err := s.src.Open(d.src)
	if err != nil {
		return iofault.Explain("open", d.src, err)
	}
	d.file = file
	if s.only != nil && d.up == nil {
		d.names = slices.Clone(s.only)
		return nil
	}
	for {
		t.Begin(&opList, &d.src)
		names, err := file.Readdirnames(4096)
		d.names = append(d.names, names...)
		if len(d.names) > maxEntries {
			return tooMany(d.src)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return iofault.Explain("list", d.src, err)
		}
	}
}

// staysIn reports whether a link to real stays one: what it leads to is in the copy.
func (s *scanner) staysIn(real string) bool { return s.only == nil && beneath.Inside(s.model, real) }

// examine asks the file system about f. It examines what a link leads to only if
// the link leaves the tree.
func (s *scanner) examine(t *OpTimer, f *found) error {
	rel := path.Join(f.dir.src, f.name)
	t.Begin(&opStat, &rel)
	defer t.End()
	var err error
	if f.meta, err = s.lstat(beneath.Folder{Root: s.src.Root, Dir: f.dir.file, Path: f.dir.src}, f.name); err != nil {
		return iofault.Explain("stat", rel, err)
	}
	if f.meta.mode&fs.ModeSymlink == 0 {
		return nil
	}
	if f.text, err = s.src.Root.Readlink(rel); err != nil {
		return iofault.Explain("read the link", rel, err)
	}
	if s.only == nil && beneath.StaysBelow(f.dir.top, f.text) {
		return nil
	}
	if f.real, f.err = beneath.Resolve(s.src.Root, s.src.seenAt, rel); f.err != nil {
		if errors.Is(f.err, syscall.ENOTDIR) { // through a file
			f.err = fs.ErrNotExist
		}
		return nil
	}
	if s.staysIn(f.real) {
		return nil
	}
	if f.real == "." { // the whole share
		f.err = beneath.Escapes(rel)
		return nil
	}
	f.target, f.err = s.lstat(s.src.Folder, f.real)
	return nil
}
