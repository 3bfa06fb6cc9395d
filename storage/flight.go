package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// A flight is one copy that is being made, for all who wait for it.
type flight struct {
	place   *place
	st      state
	rel     string // below the share
	target  string // below the storage directory
	model   string // as the first request named it
	started time.Time
	cancel  context.CancelCauseFunc
	done    chan struct{}
	err     error // set before done is closed

	waiting int // guarded by Local.mu; a flight for which nobody waits ends
	made    int // claim.Made, known once space is reserved
	count   counters
	meter   meter

	mu    sync.Mutex
	notes []string
}

func (f *flight) note(text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.notes = append(f.notes, text)
}

// maxNotes bounds what one reader is told of left-out files and the like.
const maxNotes = 1000

// noted returns the notes from the n-th on.
func (f *flight) noted(n int) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.notes[min(n, len(f.notes)):min(len(f.notes), maxNotes)])
}

// leaseCopy returns a lease on a copy of what is at rel on the share.
func (l *Local) leaseCopy(ctx context.Context, st state, rel string, req Request, auto bool, out *report) (*Lease, error) {
	now, p, err := l.at(ctx, true)
	if err != nil {
		return nil, err
	}
	if now.dir != st.dir {
		return nil, errAgain
	}
	if err := p.ready(); err != nil {
		return nil, err
	}
	found, err := p.find(rel)
	if err != nil {
		return nil, err
	}
	if found != "" {
		return l.leaseLocal(ctx, p, found, req, OriginLocal, auto, out)
	}
	target, err := p.resolve(rel)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, &Error{Kind: ClassConflict, Text: fmt.Sprintf("%q cannot be copied into %s: %v", rel, p.dir, err),
			Remedy: "move what is in its place", Err: err}
	}
	if reserved(target) {
		return nil, fail(ClassInvalid, "give the model another name on the share", "%q is a name that the storage uses itself", rel)
	}
	if m, err := p.copyAround(path.Dir(target)); m != nil || err != nil {
		if err == nil {
			err = fail(ClassConflict, "run: kitt-agent models rm "+m.Path, "%q is in the copy of %q, which was made before it was on the share", rel, m.Path)
		}
		return nil, err
	}

	unlock, err := p.lock(ctx)
	if err != nil {
		return nil, l.lockError(ctx, p, err)
	}
	taken, err := p.leaseLocked(target, l.cfg.Owner, req)
	unlock()
	if err != nil {
		return nil, explain("take a lease on", target, err)
	}
	if err := l.join(ctx, st, p, rel, target, req, out); err != nil {
		return nil, errors.Join(err, l.releaser(p, taken, false)())
	}
	unlock, err = p.lock(ctx)
	if err != nil {
		return nil, errors.Join(l.lockError(ctx, p, err), l.releaser(p, taken, false)())
	}
	err = p.touch(target)
	unlock()
	if err != nil {
		return nil, errors.Join(explain("use the copy of", target, err), l.releaser(p, taken, false)())
	}
	return NewLease(p.abs(target), OriginCopied, l.releaser(p, taken, auto)), nil
}

// join waits for the copy, which it begins if nobody has.
func (l *Local) join(ctx context.Context, st state, p *place, rel, target string, req Request, out *report) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return errClosed
	}
	key := p.abs(target)
	f := l.flights[key]
	if f != nil && f.waiting == 0 { // it was given up and is ending
		l.mu.Unlock()
		select {
		case <-f.done:
			return errAgain
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if f == nil {
		// The copy is no request's own: it goes on for those who join later.
		flying, cancel := context.WithCancelCause(context.Background())
		f = &flight{place: p, st: st, rel: rel, target: target, model: req.Model, started: time.Now(), cancel: cancel, done: make(chan struct{})}
		l.flights[key] = f
		l.work.Go(func() {
			f.err = l.fly(flying, f)
			cancel(nil)
			l.mu.Lock()
			delete(l.flights, key)
			l.mu.Unlock()
			close(f.done)
		})
	} else {
		out.line("another job is having " + target + " copied; sharing its copy")
	}
	f.waiting++
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		f.waiting--
		left := f.waiting
		l.mu.Unlock()
		if left == 0 {
			f.cancel(context.Canceled)
			<-f.done // soon: what hangs is left behind
		}
	}()

	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	told := 0
	tell := func() {
		for _, text := range f.noted(told) {
			out.line(text)
			told++
		}
	}
	for {
		select {
		case <-f.done:
			tell()
			if f.err == nil {
				out.update(target, f.meter.get())
			}
			return f.err
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
			tell()
			out.update(target, f.meter.get())
		}
	}
}

// fly makes the copy.
func (l *Local) fly(ctx context.Context, f *flight) error {
	p := f.place
	told := false
	claimed, err := waitLock(ctx, p.own("claims", keyOf(f.target)), func(file *os.File) {
		if !told {
			told = true
			f.note("another agent is copying " + f.target + "; waiting for its copy")
		}
		if c, ok := readClaim(file); ok {
			f.meter.add(c.Done, c.Size, 0, 0)
		}
	})
	if err != nil {
		return explain("claim", f.target, err)
	}
	m, err := p.copyAt(f.target)
	if err != nil || m != nil {
		return errors.Join(err, os.Remove(claimed.Name()), claimed.Close())
	}

	stop := make(chan struct{})
	var sampler sync.WaitGroup
	sampler.Go(func() { f.sample(claimed, stop) })
	err = l.gates.run(ctx, f.st.ShareMount, hands(l.cfg.Workers), func(ctx context.Context, pulses []*pulse) (err error) {
		// The claim is held until the last worker is back, however long it hung.
		defer func() { err = errors.Join(err, claimed.Close()) }()
		return l.copy(ctx, f, claimed, pulses)
	})
	close(stop)
	sampler.Wait()
	if err != nil {
		l.cfg.Logger.WarnContext(ctx, "model not copied", "model", f.target, "err", err)
		return firstOf(err)
	}
	f.meter.add(f.count.bytesTotal.Load(), f.count.bytesTotal.Load(), f.count.filesTotal.Load(), f.count.filesTotal.Load())
	l.work.Go(func() { l.markSynced(p, f.target) })
	return nil
}

// sample keeps the flight's progress and its claim up to date.
func (f *flight) sample(claimed *os.File, stop <-chan struct{}) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		done, total := f.count.bytesDone.Load(), f.count.bytesTotal.Load()
		f.meter.add(done, total, f.count.filesDone.Load(), f.count.filesTotal.Load())
		if reserved := f.count.reserved.Load(); reserved > 0 && n%4 == 0 {
			left := int64(float64(reserved) * (1 - float64(f.count.placed.Load())/float64(max(total, 1))))
			// Lost at worst until the next second.
			_ = writeClaim(claimed, claim{Path: rawText(f.target), Left: left, Done: done, Size: total, Made: f.made})
		}
	}
}

// copy makes room and the copy, and shows it.
func (l *Local) copy(ctx context.Context, f *flight, claimed *os.File, pulses []*pulse) error {
	p := f.place
	if err := p.clear(ctx, f.target); err != nil {
		return err
	}
	parents, err := p.makeParents(ctx, f.target, claimed)
	if err != nil {
		return errors.Join(err, p.dropEmpty(f.target, claimed, parents))
	}
	f.made = len(parents)
	c := &copying{
		mount: f.st.ShareMount, rel: f.rel, stage: p.stage(f.target), workers: l.cfg.Workers, note: f.note, count: &f.count,
		reserve: func(left, whole int64) error {
			f.count.reserved.Store(left)
			return p.reserve(ctx, spaceNeed{rel: f.target, made: f.made, bytes: left, whole: whole, keepFree: l.cfg.KeepFree, limit: l.cfg.MaxBytes,
				wanted: l.wanted(f.st), note: f.note, claim: claimed})
		},
	}
	if err := c.run(ctx, pulses); err != nil {
		return errors.Join(err, p.dropEmpty(f.target, claimed, parents))
	}
	took := time.Since(f.started)
	m := &manifest{
		Version: 1, Path: f.target, Source: f.st.ShareSource, SourcePath: rawText(f.rel), Copied: time.Now().UTC(), Took: took.Seconds(),
		Bytes: c.tree.bytes, Files: c.tree.files, Hash: modelHash(c.files), Piece: c.journal.piece,
		Requests: []rawText{rawText(f.model)}, Parents: parents, Boot: bootID(),
	}
	if m.Source == "" {
		m.Source = f.st.ShareMount
	}
	if err := p.show(ctx, m, c); err != nil {
		return err
	}
	f.note(fmt.Sprintf("copied %s: %s in %v (%s/s)", f.target, sizeText(m.Bytes), took.Round(10*time.Millisecond),
		sizeText(int64(float64(m.Bytes)/max(took.Seconds(), 1e-3)))))
	l.cfg.Logger.InfoContext(ctx, "model copied", "model", f.target, "bytes", m.Bytes, "took", took)
	return os.Remove(claimed.Name())
}

// dropEmpty removes the stage of a copy that failed before its first byte, and
// the directories that were made for it.
func (p *place) dropEmpty(target string, claimed *os.File, parents []rawText) error {
	stage := p.stage(target)
	if _, err := os.Lstat(stage + "/data"); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := errors.Join(os.RemoveAll(stage), os.Remove(claimed.Name()))
	// The copy's own context may be done.
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	unlock, lockErr := p.lock(ctx) // others make directories for their copies
	if lockErr != nil {
		return errors.Join(err, lockErr)
	}
	defer unlock()
	p.pruneParents(&manifest{Path: target, Parents: parents})
	return err
}

// clear removes copies of parts of the model at target, whole or not, which are
// in its way.
func (p *place) clear(ctx context.Context, target string) error {
	all, err := p.copies()
	if err != nil {
		return explain("list the copies in", p.dir, err)
	}
	for _, m := range all {
		if !inside(target, m.Path) {
			continue
		}
		why, err := p.remove(ctx, m, false)
		if err != nil {
			return explain("remove", m.Path, err)
		}
		if why != "" {
			return fail(ClassConflict, "run: kitt-agent models rm "+m.Path, "%q cannot be copied: there is a copy of its part %q, which stays because %s", target, m.Path, why)
		}
	}
	running, left, err := p.claims(keyOf(target))
	if err != nil {
		return explain("list the unfinished copies in", p.dir, err)
	}
	for _, c := range running {
		if inside(target, c.rel()) {
			return fail(ClassConflict, "try again when that is done", "%q cannot be copied: its part %q is being copied", target, c.rel())
		}
	}
	for _, c := range left {
		if !inside(target, c.rel()) {
			continue
		}
		if _, err := p.dropLeft(c); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return explain("remove", p.stage(c.rel()), err)
		}
	}
	return nil
}

// makeParents makes the directories for a copy and its stage, and returns those
// that are there only for copies.
func (p *place) makeParents(ctx context.Context, target string, claimed *os.File) ([]rawText, error) {
	unlock, err := p.lock(ctx)
	if err != nil {
		return nil, explain("lock", p.dir, err)
	}
	defer unlock()
	all, err := p.copies()
	if err != nil {
		return nil, explain("list the copies in", p.dir, err)
	}
	running, left, err := p.claims(keyOf(target))
	if err != nil {
		return nil, explain("list the unfinished copies in", p.dir, err)
	}
	before, _ := readClaim(claimed) // what an interrupted copy made
	known := before.parents()
	for _, c := range slices.Concat(running, left) {
		known = append(known, c.parents()...)
	}
	for _, m := range all {
		known = append(known, m.Parents...)
	}
	made := claim{Path: rawText(target)}
	for dir := path.Dir(target); dir != "."; dir = path.Dir(dir) {
		if _, err := p.root.Lstat(dir); !errors.Is(err, fs.ErrNotExist) && !slices.Contains(known, rawText(dir)) {
			break
		}
		made.Made++
	}
	// From here on the claim tells of what a crash leaves behind.
	if err := writeClaim(claimed, made); err != nil {
		return nil, explain("claim", target, err)
	}
	err = p.root.MkdirAll(path.Dir(target), 0o755)
	if err == nil {
		err = os.Mkdir(p.stage(target), 0o700)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return made.parents(), explain("make the directory for", target, err)
	}
	return made.parents(), nil
}

// show puts a copy that is whole in its place.
func (p *place) show(ctx context.Context, m *manifest, c *copying) error {
	unlock, err := p.lock(ctx)
	if err != nil {
		return explain("lock", p.dir, err)
	}
	defer unlock()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	data := c.stage + "/data"
	info, err := os.Lstat(data)
	if err != nil {
		return explain("look at", m.Path, err)
	}
	m.Inode = metaOf(info).ino
	if info.IsDir() && len(c.files) > 0 {
		if file, err := os.Lstat(path.Join(data, c.files[0].path)); err == nil { // the path may be too long
			m.File, m.FileInode = rawText(c.files[0].path), metaOf(file).ino
		}
	}
	if m.Boot == "" { // then nothing would tell a restart of the machine
		if err := syncFile(data); err != nil {
			return explain("write", m.Path, err)
		}
	}
	if err := p.writeManifest(m, c); err != nil {
		return explain("write the manifest of", m.Path, err)
	}
	// That of an earlier copy would tell a restart of the machine that this one
	// is on disk.
	if err := os.Remove(p.syncedPath(m.Path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return explain("remove", p.syncedPath(m.Path), err)
	}
	p.removeShell(m.Path)
	if err := renameNew(data, p.abs(m.Path)); err != nil {
		if errors.Is(err, fs.ErrExist) {
			err = &Error{Kind: ClassConflict, Text: fmt.Sprintf("%q cannot be put into %s: %v", m.Path, p.dir, err),
				Remedy: "move what is in its place", Err: err}
		}
		return firstOf(errors.Join(explain("put into its place", m.Path, err), os.Remove(p.manifestPath(keyOf(m.Path)))))
	}
	if err := os.RemoveAll(c.stage); err != nil {
		return explain("remove", c.stage, err)
	}
	return nil
}

// removeShell removes empty directories that are in a copy's place. Anything
// else stays, and then the copy cannot be put there.
func (p *place) removeShell(rel string) {
	var dirs []string
	_ = fs.WalkDir(p.root.FS(), rel, func(at string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, at)
		}
		return err
	})
	slices.SortFunc(dirs, func(a, b string) int { return strings.Compare(b, a) })
	for _, dir := range dirs {
		if p.root.Remove(dir) != nil {
			return
		}
	}
}

// settle makes sure that a copy is what was copied if the machine was started
// anew before all of it was known to be on disk. It returns errAgain if not.
func (l *Local) settle(ctx context.Context, p *place, m *manifest, out *report) error {
	marker := p.syncedPath(m.Path)
	if m.Boot == "" || m.Boot == bootID() {
		return nil
	}
	if _, err := os.Lstat(marker); err == nil {
		return nil
	}
	out.line("checking the copy of " + m.Path + ", which was made shortly before the machine restarted")
	damaged, err := p.rehash(ctx, m, func(int64) {})
	if err != nil {
		return explain("check", m.Path, err)
	}
	if len(damaged) == 0 {
		return explain("write", marker, writeFile(marker, nil))
	}
	out.line("the copy of " + m.Path + " was damaged by the restart: " + quoteAll(damaged[:min(len(damaged), 3)]))
	return errAgain
}

// dropDamaged removes a damaged copy, so that it is made again.
func (l *Local) dropDamaged(ctx context.Context, p *place, m *manifest) error {
	why, err := p.remove(ctx, m, true)
	if err != nil {
		return explain("remove", m.Path, err)
	}
	if why != "" {
		return fail(ClassDamaged, "run: kitt-agent models rm "+m.Path, "the copy of %q is damaged and stays because %s", m.Path, why)
	}
	return errAgain
}

// syncDelay is how long a copy waits before it is written to disk in full, so
// that the job's start does not wait for the disk. The kernel has begun by then.
const syncDelay = 2 * time.Second

// markSynced writes a copy to disk and notes that it is there.
func (l *Local) markSynced(p *place, rel string) {
	select {
	case <-time.After(syncDelay):
	case <-l.closing:
	}
	err := syncFile(p.abs(rel))
	if err == nil {
		err = writeFile(p.syncedPath(rel), nil)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // it may be gone already
		l.cfg.Logger.Warn("copy may not be on disk", "model", rel, "err", err)
	}
}

// syncFile writes everything in a file's file system to disk.
func syncFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(syncAll(f), f.Close())
}
