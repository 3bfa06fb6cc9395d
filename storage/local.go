package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"path"
	"slices"
	"sync"
	"time"
)

// Local is the [Storage] on this machine's disk, with copies from a share.
type Local struct {
	cfg          Config
	gates        *gates
	command      commandRunner
	root         bool          // whether commands run as root already
	ownMount     string        // mount point of the machine's own configuration; may be empty
	mountParents []string      // directories below which any share may be mounted
	mounting     chan struct{} // one mount command at a time
	closing      chan struct{} // closed by Close

	mu      sync.Mutex
	state   state
	plan    []string
	places  map[string]*place
	flights map[string]*flight
	closed  bool
	work    sync.WaitGroup // flights, and copies that are written to disk
}

var (
	_ Storage     = (*Local)(nil)
	_ Planner     = (*Local)(nil)
	_ Configurer  = (*Local)(nil)
	_ LeaseKeeper = (*Local)(nil)
)

var errClosed = &Error{Kind: ClassClosed, Text: "the storage is closed"}

// New returns a storage. It touches no file until it is used.
func New(cfg Config) (*Local, error) {
	var faults []error
	if cfg.Home == "" {
		me, err := user.Current()
		if err != nil {
			faults = append(faults, fmt.Errorf("config Home: %w", err))
		} else {
			cfg.Home = me.HomeDir
		}
	}
	if cfg.Workers == 0 {
		cfg.Workers = defaultWorkers
	}
	if cfg.Workers < 1 || cfg.Workers > maxWorkers {
		faults = append(faults, fmt.Errorf("config Workers: %d is not from 1 to %d", cfg.Workers, maxWorkers))
	}
	if cfg.ShareTimeout == 0 {
		cfg.ShareTimeout = defaultShareTimeout
	}
	if cfg.ShareTimeout < 0 || cfg.KeepFree < 0 || cfg.MaxBytes < 0 {
		faults = append(faults, errors.New("config ShareTimeout, KeepFree, MaxBytes: must not be negative"))
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	st, err := cfg.resolve(cfg.Settings)
	if err := errors.Join(append(faults, err)...); err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	return &Local{
		cfg: cfg, gates: newGates(cfg.ShareTimeout), command: runCommand, root: os.Geteuid() == 0,
		ownMount: st.ShareMount, mountParents: defaultMountParents(), mounting: make(chan struct{}, 1), closing: make(chan struct{}),
		state: st, places: map[string]*place{}, flights: map[string]*flight{},
	}, nil
}

// Settings returns the settings in force, an empty Dir filled in.
func (l *Local) Settings() Settings {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.Settings
}

// Configure changes the settings for the next Acquire. If they make no sense
// the old ones stay.
func (l *Local) Configure(s Settings) error {
	st, err := l.cfg.resolve(s)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = st
	return nil
}

// Plan says which models waiting jobs will ask for.
func (l *Local) Plan(models []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.plan = slices.Clone(models)
}

// wanted returns whether a waiting job will ask for a copy.
func (l *Local) wanted(st state) func(*manifest) bool {
	l.mu.Lock()
	plan := slices.Clone(l.plan)
	l.mu.Unlock()
	return func(m *manifest) bool {
		return slices.ContainsFunc(plan, func(model string) bool {
			if slices.Contains(m.Requests, rawText(model)) {
				return true
			}
			name, err := parseModel(model, l.cfg.Home)
			if err != nil {
				return false
			}
			paths, search := name.candidates(st.dir, st.ShareMount, false)
			return slices.ContainsFunc(paths, func(rel string) bool { return inside(m.Path, rel) }) ||
				search && path.Base(m.Path) == name.parts[len(name.parts)-1]
		})
	}
}

// Close ends what is being copied and waits for it, though not for a share that
// hangs nor for a disk that is being written to for more than a few seconds.
// Leases stay. It may be called more than once.
func (l *Local) Close() error {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.closing)
	}
	for _, f := range l.flights {
		f.cancel(errClosed)
	}
	l.mu.Unlock()
	idle := make(chan struct{})
	go func() {
		l.work.Wait()
		close(idle)
	}()
	select {
	case <-idle:
	case <-time.After(10 * time.Second):
		return nil // what hangs still uses the directories
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var err error
	for dir, p := range l.places {
		err = errors.Join(err, p.root.Close())
		delete(l.places, dir)
	}
	return err
}

// at returns the settings and the storage directory, which is nil if there is
// none yet and create is false.
func (l *Local) at(ctx context.Context, create bool) (state, *place, error) {
	l.mu.Lock()
	st, before, closed := l.state, l.places[l.state.dir], l.closed
	l.mu.Unlock()
	if closed {
		return st, nil, errClosed
	}
	err := l.gates.probe(ctx, mountOf(st.dir), &opOpen, st.dir, func() error { return l.openDir(st.dir, create) })
	if errors.Is(err, fs.ErrNotExist) && !create {
		return st, nil, nil
	}
	if err != nil {
		if classOf(err) == "" && ctx.Err() == nil {
			err = &Error{Kind: ClassUnreadable, Text: "the storage directory cannot be used: " + err.Error(),
				Remedy: "make it, and give the agent's user write access to it", Err: err}
		}
		return st, nil, err
	}
	l.mu.Lock()
	p := l.places[st.dir]
	l.mu.Unlock()
	if p == nil {
		return st, nil, errClosed
	}
	if p != before && p.used() {
		if err := errors.Join(p.finishRemovals(ctx), p.dropTorn(ctx)); err != nil {
			l.cfg.Logger.WarnContext(ctx, "what a crash left stays", "dir", p.dir, "err", err)
		}
	}
	return st, p, nil
}

// openDir opens the storage directory dir, unless it is open and still the same.
func (l *Local) openDir(dir string, create bool) error {
	l.mu.Lock()
	p := l.places[dir]
	l.mu.Unlock()
	if p != nil && p.current() {
		return nil
	}
	if create {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	opened, err := openPlace(dir)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errors.Join(errClosed, opened.root.Close())
	}
	l.places[dir] = opened // whoever still uses the other one keeps it open
	return nil
}

// errAgain says that the storage changed meanwhile and that the model is to be
// looked for anew.
var errAgain = errors.New("the storage changed meanwhile")

// Acquire implements [Storage]. Its errors are an [*Error] unless ctx ended it.
func (l *Local) Acquire(ctx context.Context, req Request) (*Lease, error) {
	return l.acquire(ctx, req, true)
}

func (l *Local) acquire(ctx context.Context, req Request, mayClean bool) (*Lease, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	name, err := parseModel(req.Model, l.cfg.Home)
	if err != nil {
		return nil, err
	}
	out := newReport(req)
	for range 5 {
		var lease *Lease
		lease, err = l.acquireOnce(ctx, req, name, out, mayClean)
		// What was being done when ctx ended has not failed; what is joined to that
		// has.
		if _, alone := err.(*Error); alone && ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
			return nil, context.Cause(ctx)
		}
		if !errors.Is(err, errAgain) {
			return lease, err
		}
	}
	return nil, fail(ClassConflict, "try again", "model %q is being changed by somebody else", req.Model)
}

func (l *Local) acquireOnce(ctx context.Context, req Request, name modelName, out *report, mayClean bool) (*Lease, error) {
	st, p, err := l.at(ctx, false)
	if err != nil {
		return nil, err
	}
	for _, top := range []string{st.dir, st.ShareMount} {
		if _, around := below(name.abs, top); name.abs != "" && (around || name.abs == top) {
			return nil, fail(ClassInvalid, "name one model in it", "%q is a directory of models", req.Model)
		}
	}
	auto := mayClean && st.AutoCleanup
	if p != nil {
		rel, err := l.localPath(p, st, name)
		if err != nil {
			return nil, err
		}
		if rel != "" {
			return l.leaseLocal(ctx, p, rel, req, OriginLocal, auto, out)
		}
	}

	inPlace, err := l.inPlace(ctx, st, name)
	if err != nil {
		return nil, err
	}
	if inPlace != "" {
		here, err := l.ours(ctx, st, p, inPlace)
		if err != nil {
			return nil, err
		}
		if here != "" {
			if name, err = parseModel(here, ""); err != nil {
				return nil, err
			}
			return l.acquireOnce(ctx, req, name, out, mayClean)
		}
	}
	var missing error
	if st.ShareMount != "" {
		missing = l.ensureMounted(ctx, st, out.line)
		if missing == nil {
			var rel string
			if rel, missing = l.findOnShare(ctx, st, name, inPlace != ""); missing == nil {
				return l.leaseCopy(ctx, st, rel, req, auto, out)
			}
			if !errors.Is(missing, ErrNotFound) {
				return nil, missing
			}
		} else if ctx.Err() != nil {
			return nil, missing
		} else if classOf(missing) != ClassUnmounted {
			return nil, missing
		}
	}
	switch {
	case inPlace != "":
		if missing != nil {
			out.line(missing.Error())
		}
		out.line("using " + inPlace + " where it is")
		return NewLease(inPlace, OriginInPlace, nil), nil
	case name.identifier():
		if missing != nil {
			out.line(missing.Error())
		}
		out.line(req.Model + " is no path here; the engine is to fetch it")
		return NewLease(req.Model, OriginIdentifier, nil), nil
	case missing != nil:
		return nil, missing
	}
	return nil, &Error{Kind: ClassNotFound, Text: fmt.Sprintf("there is no model %q on this machine, and no share is set", req.Model),
		Remedy: "set model_share_source and model_share_mount, or put the model into " + st.dir, Err: ErrNotFound}
}

// leaseLocal returns a lease on what is at rel in the storage directory.
func (l *Local) leaseLocal(ctx context.Context, p *place, rel string, req Request, origin string, auto bool, out *report) (*Lease, error) {
	m, err := p.copyAround(rel)
	if err != nil {
		return nil, explain("look at the copy of", rel, err)
	}
	if m == nil {
		if err := l.checkForeign(ctx, p, rel); err != nil {
			return nil, err
		}
		out.line("using " + p.abs(rel))
		return NewLease(p.abs(rel), origin, nil), nil // not ours: nobody removes it
	}
	unlock, err := p.lock(ctx)
	if err != nil {
		return nil, l.lockError(ctx, p, err)
	}
	now, err := p.copyAt(m.Path)
	if err != nil || now == nil {
		unlock()
		if err == nil {
			err = errAgain
		}
		return nil, err
	}
	taken, err := p.leaseLocked(m.Path, l.cfg.Owner, req)
	if err == nil {
		err = p.touch(m.Path)
	}
	if err == nil {
		// A crash just after the copy appeared left its stage and claim.
		if _, err = p.dropLeft(claim{Path: rawText(m.Path)}); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	unlock()
	if err != nil {
		return nil, explain("take a lease on", m.Path, err)
	}
	lease := NewLease(p.abs(rel), origin, l.releaser(p, taken, auto))
	if err := l.settle(ctx, p, m, out); err != nil {
		drop := l.releaser(p, taken, false)
		if errors.Is(err, errAgain) {
			if dropErr := drop(); dropErr != nil {
				return nil, dropErr
			}
			return nil, l.dropDamaged(ctx, p, m)
		}
		return nil, errors.Join(err, drop())
	}
	out.line("using " + p.abs(rel))
	return lease, nil
}

// checkForeign makes sure that what is at rel is no copy of ours: one that another
// process just takes out of sight is without its manifest for a moment, while it
// holds the lock. It returns errAgain if so.
func (l *Local) checkForeign(ctx context.Context, p *place, rel string) error {
	unlock, err := p.lock(ctx)
	if ctx.Err() != nil {
		return l.lockError(ctx, p, err)
	}
	if err != nil {
		return nil // nobody keeps copies here, or we may only read
	}
	defer unlock()
	m, err := p.copyAround(rel)
	if err != nil {
		return explain("look at the copy of", rel, err)
	}
	if _, err := p.root.Lstat(rel); m != nil || errors.Is(err, fs.ErrNotExist) {
		return errAgain
	}
	return nil
}

func (l *Local) lockError(ctx context.Context, p *place, err error) error {
	if ctx.Err() != nil {
		return err
	}
	return &Error{Kind: ClassUnreadable, Text: "the storage directory " + p.dir + " cannot be locked: " + err.Error(),
		Remedy: "give the agent's user write access to it", Err: err}
}

// releaser returns what a lease does when it is released.
func (l *Local) releaser(p *place, taken leaseFile, auto bool) func() error {
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
		defer cancel()
		unlock, err := p.lock(ctx)
		if err != nil {
			return l.lockError(ctx, p, err)
		}
		last, err := p.releaseLocked(taken)
		var m *manifest
		if err == nil && last {
			if m, err = p.copyAt(string(taken.Path)); m != nil {
				err = errors.Join(err, p.touch(m.Path))
			}
		}
		unlock()
		if err != nil {
			return explain("release", string(taken.Path), err)
		}
		l.mu.Lock()
		st := l.state
		l.mu.Unlock()
		if m == nil || !auto || l.wanted(st)(m) {
			return nil
		}
		why, err := p.remove(ctx, m, false)
		if err != nil {
			return explain("remove", m.Path, err)
		}
		if why != "" {
			l.cfg.Logger.Info("model copy kept", "model", m.Path, "why", why)
			return nil
		}
		l.cfg.Logger.Info("model copy removed", "model", m.Path, "bytes", m.Bytes)
		return nil
	}
}
