package storage

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A Copy is a model that the storage copied.
type Copy struct {
	Path       string        `json:"path"`        // absolute
	Model      string        `json:"model"`       // below the storage directory
	Source     string        `json:"source"`      // the share it came from
	SourcePath string        `json:"source_path"` // where on the share
	Copied     time.Time     `json:"copied"`      // when; zero if it is not whole
	LastUsed   time.Time     `json:"last_used"`
	Took       time.Duration `json:"took_ns"`
	Bytes      int64         `json:"bytes"`
	Files      int           `json:"files"`
	Hash       string        `json:"hash"`    // of the whole model; empty if it shares the share's blocks
	Holders    []string      `json:"holders"` // who holds leases on it
	Partial    bool          `json:"partial"` // an unfinished copy, kept to go on with
	Running    bool          `json:"running"` // it is being copied, by this agent or another one
}

// A Transfer is a copy that this storage is making.
type Transfer struct {
	Model   string // below the storage directory
	Started time.Time
	Waiting int // requests that wait for it
	Progress
}

// A Verification says whether a copy is still what was copied.
type Verification struct {
	Path    string   `json:"path"`
	Bytes   int64    `json:"bytes"`   // that were read
	Damaged []string `json:"damaged"` // files that are missing or have changed
}

// List lists the copies in the storage directory by path, the unfinished ones
// last.
func (l *Local) List(ctx context.Context) ([]Copy, error) {
	_, p, err := l.at(ctx, false)
	if err != nil || p == nil {
		return nil, err
	}
	all, err := p.copies()
	if err != nil {
		return nil, explain("list the copies in", p.dir, err)
	}
	var list []Copy
	for _, m := range all {
		leases, err := p.leases(keyOf(m.Path))
		if err != nil {
			return nil, explain("list the leases in", p.dir, err)
		}
		list = append(list, p.describe(m, leases))
	}
	running, left, err := p.claims("")
	if err != nil {
		return nil, explain("list the unfinished copies in", p.dir, err)
	}
	for i, c := range slices.Concat(running, left) {
		if slices.ContainsFunc(all, func(m *manifest) bool { return m.Path == c.rel() }) {
			continue // it has just appeared
		}
		list = append(list, Copy{Path: p.abs(c.rel()), Model: c.rel(), Bytes: c.Done, Partial: true, Running: i < len(running)})
	}
	return list, nil
}

func (p *place) describe(m *manifest, leases []leaseFile) Copy {
	c := Copy{Path: p.abs(m.Path), Model: m.Path, Source: m.Source, SourcePath: string(m.SourcePath), Copied: m.Copied, LastUsed: m.lastUsed,
		Took: time.Duration(m.Took * float64(time.Second)), Bytes: m.Bytes, Files: m.Files, Hash: m.Hash}
	for _, l := range leases {
		c.Holders = append(c.Holders, l.Holder)
	}
	return c
}

// Transfers lists the copies that this storage is making, the oldest first.
func (l *Local) Transfers() []Transfer {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []Transfer
	for _, f := range l.flights {
		list = append(list, Transfer{Model: f.target, Started: f.started, Waiting: f.waiting, Progress: f.meter.get()})
	}
	slices.SortFunc(list, func(a, b Transfer) int { return a.Started.Compare(b.Started) })
	return list
}

// Pull brings a model here without holding it: even with AutoCleanup it stays
// until a job has used it or space is needed.
func (l *Local) Pull(ctx context.Context, req Request) (path, origin string, err error) {
	lease, err := l.acquire(ctx, req, false)
	if err != nil {
		return "", "", err
	}
	return lease.Path, lease.Origin, lease.Release()
}

// Verify reads a copy and holds it against its manifest. progress, if set, is
// called with the bytes read so far and the copy's size. The error matches
// [ErrNotFound] if the storage has no copy of the model.
func (l *Local) Verify(ctx context.Context, model string, progress func(done, total int64)) (Verification, error) {
	st, p, err := l.at(ctx, false)
	if err != nil {
		return Verification{}, err
	}
	var m *manifest
	if p != nil {
		if m, err = l.copyNamed(p, st, model); err != nil {
			return Verification{}, err
		}
	}
	if m == nil {
		return Verification{}, noCopy(model)
	}
	v := Verification{Path: p.abs(m.Path)}
	v.Damaged, err = p.rehash(ctx, m, func(n int64) {
		v.Bytes += n
		if progress != nil {
			progress(v.Bytes, m.Bytes)
		}
	})
	if err != nil && ctx.Err() == nil {
		err = explain("verify", m.Path, err)
	}
	return v, err
}

func noCopy(model string) error {
	return &Error{Kind: ClassNotFound, Text: "there is no copy of " + quoteAll([]string{model}),
		Remedy: "see: kitt-agent models list", Err: ErrNotFound}
}

// copyNamed returns the copy that a name means, or nil.
func (l *Local) copyNamed(p *place, st state, model string) (*manifest, error) {
	name, err := parseModel(model, l.cfg.Home)
	if err != nil {
		return nil, err
	}
	at, err := p.asked(model)
	if err != nil {
		return nil, err
	}
	paths, _ := name.candidates(st.dir, st.ShareMount, false)
	if rel, ok := below(p.dir, name.abs); ok {
		paths = []string{rel}
	}
	if at != "" {
		paths = append([]string{at}, paths...)
	}
	for _, rel := range paths {
		real, err := p.resolve(rel)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			continue
		}
		if err != nil {
			return nil, explain("look for", rel, err)
		}
		if m, err := p.copyAt(real); m != nil || err != nil {
			return m, err
		}
	}
	return nil, nil
}

// ReleaseExcept ends the leases of this storage's owner whose holder keep does
// not want kept, such as those of jobs that are over, and returns the holders.
func (l *Local) ReleaseExcept(ctx context.Context, keep func(holder string) bool) ([]string, error) {
	st, p, err := l.at(ctx, false)
	if err != nil || p == nil {
		return nil, err
	}
	all, err := p.leases("")
	if err != nil {
		return nil, explain("list the leases in", p.dir, err)
	}
	var ended []string
	for _, lease := range all {
		if lease.Owner != l.cfg.Owner || lease.Nonce == "" || keep(lease.Holder) {
			continue
		}
		if err := l.releaser(p, lease, st.AutoCleanup)(); err != nil {
			return ended, err
		}
		ended = append(ended, lease.Holder)
	}
	return ended, nil
}

// Evict implements [Storage]. The word __cleanup__ means every copy, as an empty
// text does. What lies in the storage directory and is no copy is listed as
// kept. The error matches [ErrNotFound] if there is nothing of that name.
func (l *Local) Evict(ctx context.Context, model string) (Eviction, error) {
	var done Eviction
	st, p, err := l.at(ctx, false)
	if err != nil {
		return done, err
	}
	all := model == "" || model == cleanupAll
	if p == nil {
		if all {
			return done, nil
		}
		return done, noCopy(model)
	}
	if !all {
		m, err := l.copyNamed(p, st, model)
		if err != nil {
			return done, err
		}
		if m != nil {
			err := l.evictCopy(ctx, p, m, &done)
			return done, err
		}
		return l.evictOther(ctx, p, st, model)
	}
	copies, others, err := p.inventory()
	if err != nil {
		return done, explain("list the copies in", p.dir, err)
	}
	for _, m := range copies {
		if err := l.evictCopy(ctx, p, m, &done); err != nil {
			return done, err
		}
	}
	for _, name := range others {
		if p.onlyOurs(name) {
			continue
		}
		done.Kept = append(done.Kept, Kept{Path: p.abs(name), Reason: "it was not copied by the agent"})
	}
	running, left, err := p.claims("")
	if err != nil {
		return done, explain("list the unfinished copies in", p.dir, err)
	}
	for _, c := range running {
		done.Kept = append(done.Kept, Kept{Path: p.abs(c.rel()), Reason: "it is being copied"})
	}
	for _, c := range left {
		if err := p.evictLeft(ctx, c, &done); err != nil {
			return done, err
		}
	}
	return done, nil
}

// onlyOurs reports whether a directory holds nothing but unfinished copies.
func (p *place) onlyOurs(rel string) bool {
	info, err := p.root.Lstat(rel)
	if err != nil || !info.IsDir() {
		return false
	}
	shell, err := p.shell(rel)
	return err == nil && shell
}

func (l *Local) evictCopy(ctx context.Context, p *place, m *manifest, done *Eviction) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	why, err := p.remove(ctx, m, false)
	if err != nil {
		return explain("remove", m.Path, err)
	}
	if why != "" {
		done.Kept = append(done.Kept, Kept{Path: p.abs(m.Path), Reason: why})
		return nil
	}
	done.Removed = append(done.Removed, p.abs(m.Path))
	done.BytesFreed += m.Bytes
	l.cfg.Logger.InfoContext(ctx, "model copy removed", "model", m.Path, "bytes", m.Bytes)
	return nil
}

func (p *place) evictLeft(ctx context.Context, c claim, done *Eviction) error {
	stage := p.stage(c.rel())
	_, err := os.Lstat(stage)
	there := err == nil
	ok, err := p.dropLeft(c)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return explain("remove", stage, err)
	}
	if !ok {
		return nil
	}
	if there {
		done.Removed = append(done.Removed, stage)
		done.BytesFreed += c.Done
	}
	unlock, err := p.lock(ctx) // others make directories for their copies
	if err != nil {
		return err
	}
	defer unlock()
	p.pruneParents(&manifest{Path: c.rel(), Parents: c.parents()})
	return nil
}

// evictOther answers for a name that no copy has.
func (l *Local) evictOther(ctx context.Context, p *place, st state, model string) (done Eviction, err error) {
	name, err := parseModel(model, l.cfg.Home)
	if err != nil {
		return done, err
	}
	_, left, err := p.claims("")
	if err != nil {
		return done, explain("list the unfinished copies in", p.dir, err)
	}
	paths, _ := name.candidates(st.dir, st.ShareMount, false)
	for _, c := range left {
		if slices.Contains(paths, c.rel()) {
			err := p.evictLeft(ctx, c, &done)
			return done, err
		}
	}
	rel, err := l.localPath(p, st, name)
	if err != nil {
		return done, err
	}
	if rel != "" {
		reason := "it was not copied by the agent"
		if m, err := p.copyAround(rel); err != nil {
			return done, err
		} else if m != nil {
			reason = "it is part of the copy of " + m.Path
		}
		done.Kept = append(done.Kept, Kept{Path: p.abs(rel), Reason: reason})
		return done, nil
	}
	if ctx.Err() != nil {
		return done, context.Cause(ctx)
	}
	if name.abs != "" && !strings.HasPrefix(name.abs, st.dir+"/") {
		if real, err := l.inPlace(ctx, st, name); err == nil && real != "" {
			done.Kept = append(done.Kept, Kept{Path: real, Reason: "it is not in the storage directory"})
			return done, nil
		}
	}
	return done, noCopy(model)
}
