package modelcopy

import "iter"

// A Result describes a complete copy.
type Result struct {
	Bytes int64  // of all files
	Files int    // without hard links
	Piece int64  // size of the pieces that the hashes are of
	Print string // of the scan; see Inspection

	// Shared is how many of the bytes take no space of their own: they share blocks
	// with the original, or the file is a hard link to it.
	Shared int64

	Hash string // of the whole model; empty if a file shares blocks with the share's

	tree  *tree
	files []*fileCopy
}

// An Item is one entry of a copy.
type Item struct {
	Path  string // in the model; "." is the model itself
	Kind  Kind
	Size  int64  // of a file
	MTime int64  // of a file in the copy, in nanoseconds since 1970
	Hash  string // of a file; empty if it shares blocks with the share's
	Link  string // text of a symbolic link, or the path of the item that a hard link shares its file with
}

func (c *copier) result() *Result {
	r := &Result{Bytes: c.tree.bytes, Files: c.tree.files, Piece: c.journal.piece, Print: c.tree.print.String(), Hash: modelHash(c.files), tree: c.tree, files: c.files}
	for _, f := range c.files {
		if f.cloned {
			r.Shared += f.size
		}
	}
	return r
}

// FirstFile returns the path of one of the model's files, or ok false if it has
// none.
func (r *Result) FirstFile() (path string, ok bool) {
	if len(r.files) == 0 {
		return "", false
	}
	return r.files[0].path, true
}

// Items iterates over all entries, sorted by path.
func (r *Result) Items() iter.Seq[Item] {
	return func(yield func(Item) bool) {
		times := r.timesOfLinked()
		files := r.files // in the order of the entries
		for i := range r.tree.entries {
			e := &r.tree.entries[i]
			it := Item{Path: e.path, Kind: e.kind, Link: e.link}
			switch e.kind {
			case KindHardlink:
				it.Size, it.MTime = e.size, times[e.link]
			case KindFile:
				it.Size, it.MTime = e.size, files[0].kept
				if !files[0].cloned {
					it.Hash = files[0].sum().String()
				}
				files = files[1:]
			}
			if !yield(it) {
				return
			}
		}
	}
}

// timesOfLinked returns the times of files that have hard links, by path.
func (r *Result) timesOfLinked() map[string]int64 {
	times := map[string]int64{}
	for i := range r.tree.entries {
		if e := &r.tree.entries[i]; e.kind == KindHardlink {
			times[e.link] = 0
		}
	}
	for _, f := range r.files {
		if _, ok := times[f.path]; ok {
			times[f.path] = f.kept
		}
	}
	return times
}
