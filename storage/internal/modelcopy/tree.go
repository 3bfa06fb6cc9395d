package modelcopy

import (
	"fmt"
	"io/fs"

	"github.com/zeebo/xxh3"
)

// A stamp tells whether a file's content has changed.
type stamp struct {
	mode         fs.FileMode
	holes        bool // it is sparse
	size         int64
	mtime, ctime int64 // nanoseconds since 1970
}

// same reports whether two stamps are of the same content. Inode numbers don't
// count: some servers invent new ones for each request.
func (s stamp) same(o stamp) bool {
	return s.size == o.size && s.mtime == o.mtime && s.ctime == o.ctime && s.mode.Type() == o.mode.Type()
}

// meta is what the file system reports about one file.
type meta struct {
	stamp
	allocated int64 // bytes on its disk
	dev, ino  uint64
	links     uint64
}

// sparse reports whether the file has holes worth keeping.
func (m meta) sparse() bool { return m.allocated+64<<10 <= m.size }

// stampFor returns the stamp of a file. A further hard link changes the ctime of a
// file. So with link its inode number, which a local disk keeps, takes that place.
func stampFor(link bool, m meta) stamp {
	if link {
		m.ctime = int64(m.ino)
	}
	return m.stamp
}

func (c *copier) stampOf(m meta) stamp { return stampFor(c.Link, m) }

// An entry is one file, directory or link of a model.
type entry struct {
	path string // in the model; "." is the model itself
	src  string // on the share, without links, if that is not path below the model
	link string // text of a symbolic link that stays one, or path of the entry that a hard link shares its file with
	stamp
	kind Kind
}

// A Kind is the kind of an entry. Manifests store its number.
type Kind uint8

// Kinds of entries.
const (
	KindDir Kind = iota
	KindFile
	KindSymlink
	KindHardlink // another name of a file that is an entry of KindFile
)

// A tree is all of a model, sorted by path.
type tree struct {
	entries []entry
	files   int
	bytes   int64 // of all files
	print   fingerprint

	linked   bool     // a link was followed, or its text changed
	dangling []string // paths of links to nothing, which are left out
}

// A fingerprint is equal for two scans that found the same tree. It is the sum of
// the hashes of all entries. So their order doesn't matter, and a second scan
// keeps no entries in memory.
type fingerprint struct {
	entries int
	sum     [2]uint64
}

func (f *fingerprint) add(h *xxh3.Hasher, e *entry) {
	h.Reset()
	// Which of two hard links comes first is chance. A directory's own times say
	// nothing: some servers change them, and its entries count themselves.
	switch e.kind {
	case KindDir:
		fmt.Fprintf(h, "%q", e.path) // cannot fail
	case KindSymlink:
		fmt.Fprintf(h, "%q %q", e.path, e.link)
	default:
		fmt.Fprintf(h, "%q %d %d %d %v", e.path, e.size, e.mtime, e.ctime, e.mode.Type())
	}
	sum := h.Sum128()
	f.entries++
	f.sum[0] += sum.Lo
	f.sum[1] += sum.Hi
}
