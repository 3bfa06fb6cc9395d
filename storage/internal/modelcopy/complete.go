package modelcopy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"sync"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/storage/internal/iofault"
	"github.com/kirizan/kitt-agent/storage/internal/modelset"
)

// maxNamed is how many missing files an error names.
const maxNamed = 5

// maxHeads is how many small files that don't have the name of weights are looked
// into.
const maxHeads = 1000

// A checker checks whether all of a model is there, before any of it is copied.
type checker struct {
	src    *Source
	tree   *tree
	model  string // on the share
	label  string // of the model, for errors
	timers []*OpTimer
	have   map[string]bool // paths of files in the model
}

// checkComplete returns an error if a file of the model is only a pointer of
// git-lfs, if an index or the numbers in file names say that files are missing, or
// if a file with weights is a link to nothing.
func checkComplete(ctx context.Context, src *Source, t *tree, o Options, timers []*OpTimer) error {
	c := &checker{src: src, tree: t, model: o.Model, label: o.name(), timers: timers}
	missing := c.list()
	for _, check := range []func(context.Context) error{c.pointers, c.indexes} {
		if err := check(ctx); err != nil {
			return err
		}
	}
	missing = append(missing, modelset.MissingParts(maps.Keys(c.have))...)
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	return c.incomplete("these files are missing", slices.Compact(missing))
}

// list fills c.have. It returns the files with weights that are links to nothing.
func (c *checker) list() (dangling []string) {
	c.have = make(map[string]bool, len(c.tree.entries))
	dirs, links := map[string]bool{".": true}, map[string]string{}
	for i := range c.tree.entries {
		switch e := &c.tree.entries[i]; e.kind {
		case KindDir:
			dirs[e.path] = true
		case KindSymlink:
			links[e.path] = path.Join(path.Dir(e.path), e.link)
			fallthrough
		default:
			c.have[c.name(e)] = true
		}
	}
	for _, at := range c.tree.dangling {
		if modelset.Weights(at) {
			dangling = append(dangling, at)
		}
	}
	for at, to := range links {
		// Through another link it may lead anywhere.
		if c.have[to] || dirs[to] || !dirs[path.Dir(to)] {
			continue
		}
		delete(c.have, at)
		if modelset.Weights(at) {
			dangling = append(dangling, at)
		}
	}
	return dangling
}

// name returns the path of a file in the model. A model that is one file has its
// own name.
func (c *checker) name(e *entry) string {
	if e.path == "." {
		return path.Base(c.model)
	}
	return e.path
}

func (c *checker) incomplete(what string, files []string) error {
	names := base.Names(files[:min(len(files), maxNamed)]...)
	if more := len(files) - maxNamed; more > 0 {
		names += fmt.Sprintf(" and %d more", more)
	}
	return fault.New(iofault.Incomplete, "download or copy the rest of it", "model %q is incomplete: %s: %s", c.label, what, names)
}

// pointers looks for files that are pointers of git-lfs.
func (c *checker) pointers(ctx context.Context) error {
	files := c.files(func(e *entry) bool { return e.size >= modelset.MinPointer && e.size <= modelset.MaxPointer })
	if len(files) > maxHeads { // a model of very many small files
		files = slices.DeleteFunc(files, func(e *entry) bool { return !modelset.Weights(c.name(e)) })
	}
	var mu sync.Mutex
	var found []string
	err := parallel(ctx, c.timers, len(files), func(t *OpTimer, i int) error {
		head := make([]byte, modelset.PointerHead)
		err := c.read(t, files[i], func(r io.Reader) error {
			_, err := io.ReadFull(r, head)
			return err
		})
		if err == nil && modelset.IsPointer(head) {
			mu.Lock()
			found = append(found, c.name(files[i]))
			mu.Unlock()
		}
		return err
	})
	if err != nil || len(found) == 0 {
		return err
	}
	slices.Sort(found)
	return fault.New(iofault.Incomplete, "run there: git lfs pull",
		"model %q is incomplete: git-lfs has not fetched %d of its files: %s", c.label, len(found), base.Names(found[:min(len(found), maxNamed)]...))
}

// indexes compares the indexes of shards with the files that are there.
func (c *checker) indexes(ctx context.Context) error {
	files := c.files(func(e *entry) bool { return modelset.IsIndex(c.name(e)) && e.size <= modelset.MaxIndex })
	return parallel(ctx, c.timers, len(files), func(t *OpTimer, i int) error {
		var shards []string
		err := c.read(t, files[i], func(r io.Reader) (err error) {
			shards, err = modelset.ReadIndex(r)
			return err
		})
		if errors.Is(err, modelset.ErrIndex) {
			return nil
		}
		if err != nil {
			return err
		}
		return c.compare(c.name(files[i]), shards)
	})
}

// compare makes sure that all shards of an index are there. If none is, and other
// weights are, the index is of a format that was not downloaded.
func (c *checker) compare(index string, shards []string) error {
	dir := path.Dir(index)
	var missing []string
	for _, shard := range shards {
		if at := path.Join(dir, shard); !c.have[at] {
			missing = append(missing, at)
		}
	}
	if len(missing) == 0 || len(missing) == len(shards) && c.otherWeights(dir) {
		return nil
	}
	return c.incomplete(fmt.Sprintf("%s names files that are missing", path.Base(index)), missing)
}

// otherWeights reports whether files with weights are in a directory of the model.
func (c *checker) otherWeights(dir string) bool {
	for name := range c.have {
		if path.Dir(name) == dir && modelset.Weights(name) {
			return true
		}
	}
	return false
}

// files lists the files for which match is true.
func (c *checker) files(match func(*entry) bool) (files []*entry) {
	for i := range c.tree.entries {
		if e := &c.tree.entries[i]; e.kind == KindFile && match(e) {
			files = append(files, e)
		}
	}
	return files
}

// read opens a file on the share for f.
func (c *checker) read(t *OpTimer, e *entry, f func(io.Reader) error) error {
	at := e.src
	if at == "" {
		at = path.Join(c.model, e.path)
	}
	t.Begin(&opOpen, &at)
	file, err := c.src.Open(at)
	t.End()
	if err != nil {
		return iofault.Explain("open", at, err)
	}
	err = f(timedReader{file, t, &at})
	t.Begin(&opClose, &at)
	err = errors.Join(err, file.Close())
	t.End()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fault.New(iofault.Changed, "copy the model when nothing writes to it", "%q became shorter", at)
	}
	if errors.Is(err, modelset.ErrIndex) {
		return err
	}
	return iofault.Explain("read", at, err)
}

// A timedReader reads a file and times each read.
type timedReader struct {
	file *os.File
	t    *OpTimer
	at   *string
}

func (r timedReader) Read(p []byte) (int, error) {
	r.t.Begin(&opRead, r.at)
	defer r.t.End()
	return r.file.Read(p)
}
