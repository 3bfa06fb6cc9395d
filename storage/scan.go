package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/zeebo/xxh3"
)

// Bounds of one model.
const (
	maxEntries = 2_000_000
	maxBytes   = 16 << 40 // apparent size: a sparse file may claim any, and each of its pieces takes memory
	scanBatch  = 32       // directories held open at once
	scanPart   = 2048     // names looked at before they are put into the tree
)

// A stamp tells the content of a file from what it was before.
type stamp struct {
	mode         fs.FileMode
	holes        bool // it is sparse
	size         int64
	mtime, ctime int64 // nanoseconds since 1970
}

// same reports whether two looks at a file saw the same content. Inode numbers
// are left out: some servers make new ones up at each look.
func (s stamp) same(o stamp) bool {
	return s.size == o.size && s.mtime == o.mtime && s.ctime == o.ctime && s.mode.Type() == o.mode.Type()
}

// meta is what the file system says about one file.
type meta struct {
	stamp
	allocated int64 // bytes that it takes on its disk
	dev, ino  uint64
	links     uint64
}

// sparse reports whether the file has holes worth keeping.
func (m meta) sparse() bool { return m.allocated+64<<10 <= m.size }

// An entry is one file, directory or link of a model.
type entry struct {
	path string // in the model; "." is the model itself
	src  string // on the share, without links, if that is not path below the model
	link string // text of a symbolic link that stays one, or path of the entry that a hard link shares its file with
	stamp
	kind entryKind
}

type entryKind uint8

const (
	kindDir entryKind = iota
	kindFile
	kindSymlink
	kindHardlink
)

// A tree is all of a model, sorted by path.
type tree struct {
	entries []entry
	files   int
	bytes   int64 // of all files
	print   fingerprint
}

// A fingerprint is the same for two looks at a tree that found the same: it is
// the sum of hashes of all entries, so their order does not matter and a second
// look needs no memory for them.
type fingerprint struct {
	entries int
	sum     [2]uint64
}

func (f *fingerprint) add(h *xxh3.Hasher, e *entry) {
	h.Reset()
	// Which of two hard links came first is chance, and a directory's own times
	// say nothing: some servers move them, and its entries count themselves.
	switch e.kind {
	case kindDir:
		fmt.Fprintf(h, "%q", e.path) // cannot fail
	case kindSymlink:
		fmt.Fprintf(h, "%q %q", e.path, e.link)
	default:
		fmt.Fprintf(h, "%q %d %d %d %v", e.path, e.size, e.mtime, e.ctime, e.mode.Type())
	}
	sum := h.Sum128()
	f.entries++
	f.sum[0] += sum.Lo
	f.sum[1] += sum.Hi
}

// A source is a directory tree that models are copied from.
type source struct {
	folder          // the top of it
	mount  string   // where it is mounted
	seenAt []string // prefixes of absolute links that lead below it
}

// openSource opens the share that is mounted at mount.
func openSource(mount string) (*source, error) {
	top, err := openRoot(mount)
	if err != nil {
		return nil, err
	}
	real, err := filepath.EvalSymlinks(mount)
	if err != nil {
		return nil, errors.Join(err, top.closeRoot())
	}
	return &source{folder: top, mount: mount, seenAt: []string{mount, real}}, nil
}

func (s *source) close() error { return s.closeRoot() }

// open opens a file of the share, whose path has no links in it.
func (s *source) open(rel string) (*os.File, error) { return s.folder.open(rel, os.O_RDONLY, 0) }

// A scanner looks at a whole model. Its parallel looks hide the share's latency.
type scanner struct {
	src    *source
	model  string // on the share, without links
	pulses []*pulse
	again  bool         // a second look, which keeps only the fingerprint
	note   func(string) // takes lines for the job's reader

	hasher *xxh3.Hasher
	tree   tree
	count  int
	seen   map[[2]uint64]firstLink // files by device and inode, for hard links
	bySrc  map[string]firstLink    // files that were reached through links
}

// A firstLink is the entry that later ones share their file with.
type firstLink struct {
	path string
	stamp
}

// A scanDir is a directory still to be read.
type scanDir struct {
	path  string
	src   string
	top   int // levels that a link in it may climb and stay in what is copied
	up    *scanDir
	id    [2]uint64
	depth int

	file  *os.File
	names []string
}

// A found is one name in a directory, looked at.
type found struct {
	dir    *scanDir
	name   string
	meta   meta
	text   string // of a symbolic link
	real   string // where a link that leaves the tree leads, without links
	target meta   // of what is there
	err    error
}

// scan looks at the model at rel, which has no links in it unless it is one to a
// file. A second look asks the server rather than the cache and returns no
// entries.
func scan(ctx context.Context, src *source, rel string, pulses []*pulse, again bool, note func(string)) (*tree, error) {
	s := &scanner{src: src, model: rel, pulses: pulses, again: again, note: note, hasher: xxh3.New(),
		seen: map[[2]uint64]firstLink{}, bySrc: map[string]firstLink{}}
	p := pulses[0]
	real := rel
	p.begin(&opStat, &rel)
	top, err := lstatAt(src.folder, rel, again)
	if err == nil && top.mode&fs.ModeSymlink != 0 {
		if real, err = resolveIn(src.root, src.seenAt, rel); err == nil {
			top, err = lstatAt(src.folder, real, again)
		}
	}
	p.end()
	if err != nil {
		return nil, explain("look at", rel, err)
	}
	switch {
	case top.mode.IsRegular():
		s.addFile(".", real, top)
	case top.mode.IsDir() && real == rel:
		s.put(entry{path: ".", stamp: top.stamp, kind: kindDir})
		first := &scanDir{path: ".", src: rel, id: [2]uint64{top.dev, top.ino}}
		if err := s.walk(ctx, first); err != nil {
			return nil, err
		}
	default:
		return nil, fail(ClassInvalid, "name a directory or a file", "%q is neither a directory nor a file", rel)
	}
	slices.SortFunc(s.tree.entries, func(a, b entry) int { return strings.Compare(a.path, b.path) })
	for i := range s.tree.entries {
		if e := &s.tree.entries[i]; e.kind == kindFile {
			if e.size < 0 || e.size > maxBytes-s.tree.bytes {
				return nil, fail(ClassInvalid, "look at the file on the share", "%q has more than %s with %q", s.model, sizeText(maxBytes), e.path)
			}
			s.tree.files++
			s.tree.bytes += e.size
		}
	}
	return &s.tree, nil
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

// readBatch reads the directories of batch and returns those that it found.
func (s *scanner) readBatch(ctx context.Context, batch []*scanDir) (more []*scanDir, err error) {
	defer func() {
		for _, d := range batch {
			if d.file != nil {
				err = errors.Join(err, d.file.Close())
			}
		}
	}()
	err = parallel(ctx, s.pulses, len(batch), func(p *pulse, i int) error { return s.list(p, batch[i]) })
	if err != nil {
		return nil, err
	}
	// Looked at in parts, so that a directory of any size takes little memory.
	part := make([]found, 0, scanPart)
	flush := func() error {
		err := parallel(ctx, s.pulses, len(part), func(p *pulse, i int) error { return s.look(p, &part[i]) })
		if err != nil {
			return err
		}
		for i := range part {
			d, err := s.add(&part[i])
			if err != nil {
				return err
			}
			if d != nil {
				more = append(more, d)
			}
		}
		if s.count > maxEntries {
			return fail(ClassInvalid, "name one model rather than a directory of many", "%q has more than %d files", s.model, maxEntries)
		}
		part = part[:0]
		return nil
	}
	for _, d := range batch {
		for _, name := range d.names {
			if part = append(part, found{dir: d, name: name}); len(part) == cap(part) {
				if err := flush(); err != nil {
					return nil, err
				}
			}
		}
		d.names = nil
	}
	if err := flush(); err != nil {
		return nil, err
	}
	return more, nil
}

func (s *scanner) list(p *pulse, d *scanDir) error {
	p.begin(&opList, &d.src)
	defer p.end()
	file, err := s.src.open(d.src)
	if err != nil {
		return explain("open", d.src, err)
	}
	d.file = file
	for {
		p.begin(&opList, &d.src)
		names, err := file.Readdirnames(4096)
		d.names = append(d.names, names...)
		if len(d.names) > maxEntries {
			return fail(ClassInvalid, "name one model rather than a directory of many", "%q has more than %d files", d.src, maxEntries)
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return explain("list", d.src, err)
		}
	}
}

// look fills in f. What a link leads to is looked at only if the link leaves
// the tree.
func (s *scanner) look(p *pulse, f *found) error {
	rel := path.Join(f.dir.src, f.name)
	p.begin(&opStat, &rel)
	defer p.end()
	var err error
	if f.meta, err = lstatAt(folder{root: s.src.root, dir: f.dir.file, path: f.dir.src}, f.name, s.again); err != nil {
		return explain("look at", rel, err)
	}
	if f.meta.mode&fs.ModeSymlink == 0 {
		return nil
	}
	if f.text, err = s.src.root.Readlink(rel); err != nil {
		return explain("read the link", rel, err)
	}
	if staysBelow(f.dir.top, f.text) {
		return nil
	}
	if f.real, f.err = resolveIn(s.src.root, s.src.seenAt, rel); f.err != nil {
		if errors.Is(f.err, syscall.ENOTDIR) { // through a file
			f.err = fs.ErrNotExist
		}
		return nil
	}
	if inside(s.model, f.real) {
		return nil
	}
	if reservedShare(f.real) {
		f.err = escapes(rel)
		return nil
	}
	f.target, f.err = lstatAt(s.src.folder, f.real, s.again)
	return nil
}

// reservedShare reports whether following a link there would take in the whole
// share.
func reservedShare(rel string) bool { return rel == "." }

// add puts f into the tree and returns it if it is a directory to be read.
func (s *scanner) add(f *found) (*scanDir, error) {
	at := path.Join(f.dir.path, f.name)
	src := path.Join(f.dir.src, f.name)
	m := f.meta
	followed := false
	if m.mode&fs.ModeSymlink != 0 {
		text := f.text
		switch {
		case f.real == "" && f.err == nil: // stays in the tree
			s.put(entry{path: at, link: text, stamp: m.stamp, kind: kindSymlink})
			return nil, nil
		case errors.Is(f.err, fs.ErrNotExist):
			s.note(fmt.Sprintf("left out %q: a link to nothing", src))
			return nil, nil
		case f.err != nil:
			return nil, explain("follow the link", src, f.err)
		case inside(s.model, f.real):
			text = relativeLink(f.dir.path, strings.TrimPrefix(strings.TrimPrefix(f.real, s.model), "/"))
			s.put(entry{path: at, link: text, stamp: m.stamp, kind: kindSymlink})
			return nil, nil
		}
		m, src, followed = f.target, f.real, true
	}
	switch {
	case m.mode.IsRegular():
		s.addFile(at, src, m)
		return nil, nil
	case m.mode.IsDir():
		d := &scanDir{path: at, src: src, up: f.dir, id: [2]uint64{m.dev, m.ino}, depth: f.dir.depth + 1, top: f.dir.top + 1}
		if followed {
			d.top = 0
		}
		for up := f.dir; up != nil; up = up.up {
			if up.id == d.id && d.id[1] != 0 || up.src == d.src {
				return nil, fail(ClassLoop, "remove the link or mount that leads back", "directory %q contains itself as %q", up.src, path.Join(f.dir.src, f.name))
			}
		}
		if d.depth > maxDepth {
			return nil, fail(ClassLoop, "remove the link or mount that leads back", "%q is more than %d directories deep", src, maxDepth)
		}
		s.put(entry{path: at, stamp: m.stamp, kind: kindDir})
		return d, nil
	default:
		s.note(fmt.Sprintf("left out %q: neither a file nor a directory", src))
		return nil, nil
	}
}

// addFile adds a file, as a hard link if the tree has its content already.
func (s *scanner) addFile(at, src string, m meta) {
	e := entry{path: at, stamp: m.stamp, kind: kindFile}
	e.holes = m.sparse()
	followed := src != path.Join(s.model, at)
	if followed {
		e.src = src
	}
	id := [2]uint64{m.dev, m.ino}
	first, ok := s.seen[id]
	// Some servers make inode numbers up, so they count only together with
	// what else is known.
	if ok = ok && m.links > 1 && first.same(m.stamp); !ok && followed {
		first, ok = s.bySrc[src]
	}
	if ok {
		e.kind, e.link = kindHardlink, first.path
	} else {
		if m.links > 1 {
			s.seen[id] = firstLink{at, m.stamp}
		}
		if followed {
			s.bySrc[src] = firstLink{at, m.stamp}
		}
	}
	s.put(e)
}
