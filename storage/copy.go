package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/bits"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/zeebo/xxh3"
)

const (
	bufferSize = 1 << 20  // of one read, and of each worker's memory
	maxSpan    = 64 << 20 // bytes that one worker copies in a row
	zeroBlock  = 4 << 10  // smallest hole that is kept

	// localStreams is how many parts of large files are copied at once from a
	// local disk, at least. On ext4 with two cores 4 took 0.20 s for 512 MiB,
	// 16 took 0.24 s, and without preallocation 0.34 s and 0.41 s.
	localStreams = 4
)

// A copying is one run of the copy engine: it brings the model at rel on the
// share into the directory stage, as "data", which is a directory or a file.
// Nothing outside of stage is written.
type copying struct {
	mount   string
	rel     string
	stage   string
	note    func(string)      // takes lines for the job's reader
	reserve func(int64) error // is asked for space, in bytes, before the first byte
	count   *counters

	src     *source
	root    *os.Root // of stage
	dir     *os.File // stage itself
	journal *journal
	tree    *tree
	remote  bool        // the share is behind a network
	fresh   bool        // no earlier attempt left anything in stage
	huge    bool        // the model would push everything else out of the page cache
	noClone atomic.Bool // the file system shares no blocks with the share
	zeroes  []byte
	files   []*copyFile
}

// counters are what a copying tells about its progress.
type counters struct {
	bytesDone, bytesTotal, filesDone, filesTotal atomic.Int64
	bytesRead                                    atomic.Int64 // from the share
	reserved                                     atomic.Int64 // space that was asked for
}

// A copyFile is a file that is being copied.
type copyFile struct {
	*entry
	number int // in the journal; 0 until it is in there
	hashes []hash
	left   atomic.Int64 // pieces that are not whole yet
	had    *journalled
	cloned bool
	sum    hash

	once sync.Once
	err  error // of readying it
}

// A span is a run of pieces of one file, which one worker copies.
type span struct {
	file     *copyFile
	from, to int
}

// run copies the model, and once more what changed or was damaged meanwhile.
func (c *copying) run(ctx context.Context, pulses []*pulse) (err error) {
	c.zeroes = make([]byte, bufferSize)
	for attempt := 1; ; attempt++ {
		err = c.attempt(ctx, pulses)
		if err == nil || ctx.Err() != nil || attempt == 2 {
			return err
		}
		switch classOf(err) {
		case ClassChanged, ClassDamaged, ClassStale:
			c.note(fmt.Sprintf("%v; once more", err))
		default:
			return err
		}
	}
}

func (c *copying) attempt(ctx context.Context, pulses []*pulse) (err error) {
	p := pulses[0]
	p.begin(&opOpen, &c.mount)
	c.src, err = openSource(c.mount)
	p.end()
	if err != nil {
		return explain("open the share", c.mount, err)
	}
	defer func() { err = errors.Join(err, c.src.close()) }()
	c.remote = isRemote(c.src.dir)
	if c.tree, err = scan(ctx, c.src, c.rel, pulses, false, c.note); err != nil {
		return err
	}
	if err := c.openStage(len(pulses)); err != nil {
		return explain("prepare", c.stage, err)
	}
	defer func() { err = errors.Join(err, c.journal.close(), c.dir.Close(), c.root.Close()) }()

	if err := c.prepare(ctx, pulses); err != nil {
		return err
	}
	if err := c.copyFiles(ctx, pulses); err != nil {
		return err
	}
	if err := c.links(); err != nil {
		return err
	}
	if err := c.verify(ctx, pulses); err != nil {
		return err
	}
	again, err := scan(ctx, c.src, c.rel, pulses, true, func(string) {})
	if err != nil {
		return err
	}
	if again.print != c.tree.print {
		return fail(ClassChanged, "copy the model when nothing writes to it", "%q changed while it was copied", c.rel)
	}
	return c.directoryTimes()
}

// openStage opens the staging directory and removes from it what the model no
// longer has.
func (c *copying) openStage(workers int) (err error) {
	if err := os.Mkdir(c.stage, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if c.root, err = os.OpenRoot(c.stage); err != nil {
		return err
	}
	if c.dir, err = c.root.Open("."); err != nil {
		return errors.Join(err, c.root.Close())
	}
	c.journal, err = openJournal(filepath.Join(c.stage, "journal"), pieceFor(c.tree.bytes, c.streams(workers)))
	if err == nil {
		err = c.sweepStage()
		if err != nil {
			err = errors.Join(err, c.journal.close())
		}
	}
	if err != nil {
		return errors.Join(err, c.dir.Close(), c.root.Close())
	}
	return nil
}

func (c *copying) sweepStage() error {
	top := filepath.Join(c.stage, "data")
	if _, err := os.Lstat(top); errors.Is(err, fs.ErrNotExist) {
		c.fresh = true
		return nil
	}
	c.fresh = false
	kinds := make(map[string]entryKind, len(c.tree.entries))
	for i := range c.tree.entries {
		kinds[c.tree.entries[i].path] = c.tree.entries[i].kind
	}
	return filepath.WalkDir(top, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(top, at)
		if err != nil {
			return err
		}
		kind, wanted := kinds[rel]
		switch {
		case wanted && kind == kindDir && d.IsDir(), wanted && kind == kindFile && d.Type().IsRegular():
			return nil
		}
		if err := os.RemoveAll(at); err != nil {
			return err
		}
		if d.IsDir() {
			return filepath.SkipDir
		}
		return nil
	})
}

// srcOf returns where an entry is on the share.
func (c *copying) srcOf(e *entry) string {
	if e.src != "" {
		return e.src
	}
	return path.Join(c.rel, e.path)
}

// to returns where an entry goes, relative to the staging directory.
func to(rel string) string { return path.Join("data", rel) }

// prepare sees what is there already, asks for space and makes the directories.
func (c *copying) prepare(ctx context.Context, pulses []*pulse) error {
	c.files = make([]*copyFile, 0, c.tree.files)
	// Many files have one piece; their hashes come from large allocations.
	var spare []hash
	hashes := func(n int) []hash {
		if n > cap(spare)-len(spare) {
			spare = make([]hash, 0, max(n, 4096))
		}
		at := len(spare)
		spare = spare[:at+n]
		return spare[at : at+n : at+n]
	}
	var staged, cost int64
	sparse := []*entry{}
	for i := range c.tree.entries {
		e := &c.tree.entries[i]
		switch e.kind {
		case kindDir:
			cost += zeroBlock
		case kindFile:
			f := &copyFile{entry: e, hashes: hashes(pieces(e.size, c.journal.piece)), had: c.journal.had(e)}
			f.left.Store(int64(len(f.hashes)))
			c.files = append(c.files, f)
			if f.had != nil {
				if info, err := c.root.Lstat(to(e.path)); err == nil {
					staged += metaOf(info).allocated
				}
			}
			if e.holes {
				sparse = append(sparse, e)
			} else {
				cost += (e.size + zeroBlock - 1) &^ (zeroBlock - 1)
			}
		}
	}
	var holey atomic.Int64
	err := parallel(ctx, pulses, len(sparse), func(p *pulse, i int) error {
		at := c.srcOf(sparse[i])
		p.begin(&opOpen, &at)
		defer p.end()
		f, err := c.src.open(at)
		if err != nil {
			return explain("open", at, err)
		}
		holey.Add(dataBytes(f, sparse[i].size))
		return f.Close()
	})
	if err != nil {
		return err
	}
	memory := memoryTotal()
	c.huge = memory > 0 && c.tree.bytes > memory/2
	c.count.bytesTotal.Store(c.tree.bytes)
	c.count.filesTotal.Store(int64(len(c.files)))
	c.count.bytesDone.Store(0)
	c.count.filesDone.Store(0)
	if staged > 0 {
		c.note(fmt.Sprintf("going on with an interrupted copy: up to %s are here already", sizeText(staged)))
	}
	if err := c.reserve(max(cost+holey.Load()-staged, 0)); err != nil {
		return err
	}
	return c.makeDirectories()
}

func (c *copying) makeDirectories() error {
	for i := range c.tree.entries {
		e := &c.tree.entries[i]
		if e.kind != kindDir {
			continue
		}
		err := c.root.Mkdir(to(e.path), 0o700)
		if errors.Is(err, fs.ErrExist) {
			err = c.root.Chmod(to(e.path), 0o700) // an earlier run made it
		}
		if err != nil {
			return explain("make directory", e.path, err)
		}
	}
	return nil
}

// spans cuts the files into what the workers take, the large ones first so that
// none of them is left for one worker at the end.
func (c *copying) spans(workers int) []span {
	bySize := slices.Clone(c.files)
	slices.SortStableFunc(bySize, func(a, b *copyFile) int {
		// Sizes of one magnitude count as one, so that neighbours stay so.
		// Pieces are powers of two, so files of one piece come last.
		return magnitude(b.size) - magnitude(a.size)
	})
	var all []span
	for _, f := range bySize {
		n := len(f.hashes)
		step := int(min(max(int64(n/(2*c.streams(workers))), 1), max(maxSpan/c.journal.piece, 1)))
		if n == 0 {
			all = append(all, span{file: f})
		}
		for from := 0; from < n; from += step {
			all = append(all, span{f, from, min(from+step, n)})
		}
	}
	return all
}

// streams is how many parts of large files are copied at once.
func (c *copying) streams(workers int) int {
	if c.remote {
		return workers
	}
	return min(max(localStreams, runtime.NumCPU()/2), workers)
}

// magnitude is the same for sizes between two powers of two, the upper included.
func magnitude(size int64) int { return bits.Len64(uint64(max(size, 1) - 1)) }

func (c *copying) copyFiles(ctx context.Context, pulses []*pulse) error {
	spans := c.spans(len(pulses))
	workers := make(map[*pulse]*worker, len(pulses))
	for _, p := range pulses {
		workers[p] = &worker{c: c, pulse: p, hasher: xxh3.New()}
	}
	// A network's latency is hidden by many requests at once. A local disk
	// wants few long streams, and many hands only for small files.
	large, streams := len(spans), c.streams(len(pulses))
	if !c.remote {
		large, _ = slices.BinarySearchFunc(spans, 1, func(s span, _ int) int {
			if len(s.file.hashes) > 1 {
				return -1
			}
			return 1
		})
	}
	err := parallel(ctx, pulses[:streams], large, func(p *pulse, i int) error {
		return workers[p].copySpan(ctx, spans[i])
	})
	if err == nil {
		err = parallel(ctx, pulses, len(spans)-large, func(p *pulse, i int) error {
			return workers[p].copySpan(ctx, spans[large+i])
		})
	}
	for _, w := range workers {
		err = errors.Join(err, w.closeFiles())
	}
	return firstOf(err)
}

// firstOf undoes errors.Join where there is only one error of interest.
func firstOf(err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return err
}

// A worker copies one span after the other. It keeps the last file open, as the
// next span is often the next part of it.
type worker struct {
	c      *copying
	pulse  *pulse
	hasher *xxh3.Hasher
	buffer []byte

	file     *copyFile
	at       string // on the share
	src, dst *os.File
}

func (w *worker) closeFiles() (err error) {
	if w.src != nil {
		err = w.src.Close()
	}
	if w.dst != nil {
		err = errors.Join(err, w.dst.Close())
	}
	w.file, w.src, w.dst = nil, nil, nil
	return err
}

func (w *worker) copySpan(ctx context.Context, s span) error {
	if w.file != s.file {
		if err := w.closeFiles(); err != nil {
			return explain("close", s.file.path, err)
		}
		w.file = s.file
		if err := w.openTarget(); err != nil {
			return explain("write", w.c.rel+"/"+s.file.path, err)
		}
	}
	f := s.file
	f.once.Do(func() { f.err = w.begin() })
	if f.err != nil {
		return f.err
	}
	if f.cloned {
		return nil
	}
	if len(f.hashes) == 0 {
		return w.finish()
	}
	for at := s.from; at < s.to; at++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		off := int64(at) * w.c.journal.piece
		n := min(w.c.journal.piece, f.size-off)
		sum, err := w.piece(ctx, at, off, n)
		if err != nil {
			return err
		}
		f.hashes[at] = sum
		if err := w.c.journal.add(f, at, sum); err != nil {
			return explain("write", w.c.stage, err)
		}
		w.c.count.bytesDone.Add(n)
		if f.left.Add(-1) == 0 {
			return w.finish()
		}
	}
	return nil
}

func (w *worker) openTarget() (err error) {
	name := to(w.file.path)
	w.dst, err = openBeneath(w.c.root, w.c.dir, name, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrPermission) { // an earlier run finished it
		if err = w.c.root.Chmod(name, 0o600); err == nil {
			w.dst, err = openBeneath(w.c.root, w.c.dir, name, os.O_RDWR, 0)
		}
	}
	return err
}

// openSource opens the file on the share, if it is not open, and makes sure
// that it is the one that was planned.
func (w *worker) openSource() error {
	if w.src != nil {
		return nil
	}
	f := w.file
	w.at = w.c.srcOf(f.entry)
	w.pulse.begin(&opOpen, &w.at)
	defer w.pulse.end()
	src, err := w.c.src.open(w.at)
	if err != nil {
		return explain("open", w.at, err)
	}
	w.src = src
	info, err := src.Stat()
	if err != nil {
		return explain("look at", w.at, err)
	}
	if !metaOf(info).same(f.stamp) {
		return fail(ClassChanged, "copy the model when nothing writes to it", "%q changed while the model was copied", w.at)
	}
	if len(f.hashes) > 1 {
		advise(src, w.c.remote)
	}
	return nil
}

// begin readies the file's copy: shares its blocks with the share's file where
// that can be, otherwise gives it its size and, unless it is sparse, its space.
func (w *worker) begin() error {
	f, c := w.file, w.c
	if f.size == 0 {
		return explain("write", f.path, w.dst.Truncate(0))
	}
	if f.had == nil && !c.fresh {
		if err := w.dst.Truncate(0); err != nil {
			return explain("write", f.path, err)
		}
	}
	if f.had == nil && !c.noClone.Load() {
		if err := w.openSource(); err != nil {
			return err
		}
		if reflink(w.dst, w.src) {
			f.cloned = true
			f.hashes = nil
			c.count.bytesDone.Add(f.size)
			return w.finish()
		}
		c.noClone.Store(true)
	}
	if len(f.hashes) == 1 && !f.holes {
		return nil // one write gives it both
	}
	if err := w.dst.Truncate(f.size); err != nil {
		return explain("write", f.path, err)
	}
	if !f.holes {
		return explain("reserve space for", f.path, preallocate(w.dst, f.size))
	}
	return nil
}

// piece brings one piece of the file here, unless it is here, and returns its
// hash.
func (w *worker) piece(ctx context.Context, at int, off, n int64) (hash, error) {
	f := w.file
	if want := int(min(n, bufferSize)); len(w.buffer) < want {
		w.buffer = make([]byte, want)
	}
	if f.had != nil {
		if want, ok := f.had.pieces[at]; ok {
			if sum, err := w.hashLocal(w.dst, off, n); err == nil && sum == want {
				return sum, nil
			}
		}
	}
	if err := w.openSource(); err != nil {
		return hash{}, err
	}
	w.hasher.Reset()
	for end := off + n; off < end; {
		step := min(bufferSize, end-off)
		block := w.buffer[:step]
		if f.holes && nextData(w.src, off, f.size) >= off+step {
			_, _ = w.hasher.Write(w.c.zeroes[:step]) // cannot fail
			off += step
			continue
		}
		if err := w.read(block, off); err != nil {
			return hash{}, err
		}
		// A read that hung may come back long after the copy was given up.
		if ctx.Err() != nil {
			return hash{}, context.Cause(ctx)
		}
		_, _ = w.hasher.Write(block)
		if err := w.write(block, off); err != nil {
			return hash{}, explain("write", f.path, err)
		}
		if w.c.huge {
			forget(w.src, off, step)
			writeBack(w.dst, off, step)
			// What was begun two pieces ago is on disk by now.
			forget(w.dst, max(off-2*maxPiece, 0), maxPiece)
		}
		off += step
	}
	return w.hasher.Sum128().Bytes(), nil
}

func (w *worker) read(block []byte, off int64) error {
	f := w.file
	w.pulse.begin(&opRead, &w.at)
	n, err := w.src.ReadAt(block, off)
	w.pulse.end()
	w.c.count.bytesRead.Add(int64(n))
	if n == len(block) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return fail(ClassChanged, "copy the model when nothing writes to it",
			"%q ended at %d of its %d bytes", w.at, off+int64(n), f.size)
	}
	return explain("read", w.at, err)
}

// write writes a block, except for its holes if the file is sparse.
func (w *worker) write(block []byte, off int64) error {
	if !w.file.holes {
		_, err := w.dst.WriteAt(block, off)
		return err
	}
	for len(block) > 0 {
		hole := zeroRun(block)
		block, off = block[hole:], off+int64(hole)
		data := dataRun(block)
		if data > 0 {
			if _, err := w.dst.WriteAt(block[:data], off); err != nil {
				return err
			}
		}
		block, off = block[data:], off+int64(data)
	}
	return nil
}

// zeroRun returns how many bytes of whole zero blocks p begins with.
func zeroRun(p []byte) int {
	n := 0
	for n < len(p) && allZero(p[n:min(n+zeroBlock, len(p))]) {
		n = min(n+zeroBlock, len(p))
	}
	return n
}

// dataRun returns how many bytes there are before p's first zero block.
func dataRun(p []byte) int {
	n := 0
	for n < len(p) && !allZero(p[n:min(n+zeroBlock, len(p))]) {
		n = min(n+zeroBlock, len(p))
	}
	return n
}

func allZero(p []byte) bool {
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}

// hashLocal hashes a piece of a local file.
func (w *worker) hashLocal(f *os.File, off, n int64) (hash, error) {
	w.hasher.Reset()
	for end := off + n; off < end; {
		block := w.buffer[:min(int64(len(w.buffer)), end-off)]
		if _, err := f.ReadAt(block, off); err != nil {
			return hash{}, err
		}
		_, _ = w.hasher.Write(block) // cannot fail
		off += int64(len(block))
	}
	return w.hasher.Sum128().Bytes(), nil
}

// finish gives a file that is whole its mode and time.
func (w *worker) finish() error {
	f := w.file
	f.sum = joinHashes(f.hashes)
	if err := w.dst.Chmod(f.mode.Perm() | 0o400); err != nil {
		return explain("write", f.path, err)
	}
	if err := setTimes(w.c.dir, to(f.path), f.mtime); err != nil {
		return explain("write", f.path, err)
	}
	w.c.count.filesDone.Add(1)
	return nil
}

// joinHashes returns a file's hash: that of its only piece, or the XXH3-128 of
// the hashes of its pieces.
func joinHashes(all []hash) hash {
	if len(all) == 1 {
		return all[0]
	}
	h := xxh3.New()
	for _, one := range all {
		_, _ = h.Write(one[:]) // cannot fail
	}
	return h.Sum128().Bytes()
}

// links makes the symbolic and hard links, which need what they lead to.
func (c *copying) links() error {
	for i := range c.tree.entries {
		e := &c.tree.entries[i]
		var err error
		switch e.kind {
		case kindSymlink:
			if err = c.root.Symlink(e.link, to(e.path)); err == nil {
				err = setTimes(c.dir, to(e.path), e.mtime)
			}
		case kindHardlink:
			err = c.root.Link(to(e.link), to(e.path))
		}
		if err != nil {
			return explain("link", e.path, err)
		}
	}
	return nil
}

// directoryTimes gives the directories their modes and times, the deepest first.
func (c *copying) directoryTimes() error {
	for i := len(c.tree.entries) - 1; i >= 0; i-- {
		e := &c.tree.entries[i]
		if e.kind != kindDir {
			continue
		}
		if err := c.root.Chmod(to(e.path), e.mode.Perm()|0o700); err != nil {
			return explain("write", e.path, err)
		}
		if err := setTimes(c.dir, to(e.path), e.mtime); err != nil {
			return explain("write", e.path, err)
		}
	}
	return nil
}

// discard makes sure that a file is copied anew.
func (c *copying) discard(f *copyFile) error {
	err := c.journal.forget(f)
	if rm := c.root.Remove(to(f.path)); rm != nil && !errors.Is(rm, fs.ErrNotExist) {
		err = errors.Join(err, rm)
	}
	return err
}

// sizeText writes a number of bytes for a person.
func sizeText(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	unit, value := 0, float64(n)/1024
	for value >= 1024 && unit < len(units)-1 {
		value /= 1024
		unit++
	}
	return strings.Replace(fmt.Sprintf("%.1f %ciB", value, units[unit]), ".0 ", " ", 1)
}
