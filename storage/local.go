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
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Config says how a [Local] storage works. Its zero value is usable.
type Config struct {
	// Settings are those to begin with; Configure changes them. An empty Dir
	// means ~/.kitt/models.
	Settings

	// Owner names this agent among those that share the storage directory; the
	// leases of one owner are its own. It should not change.
	Owner string

	// Home is what a leading ~ stands for. Defaults to the user's home.
	Home string

	// KeepFree is how many bytes of the disk a copy leaves free.
	KeepFree int64

	// MaxBytes is how many bytes all copies together may take; the least
	// recently used go before a copy would exceed it. Zero means no limit.
	MaxBytes int64

	// Workers is how many files, or parts of files, are copied at once, from 1
	// to 64. Each takes 1 MiB of memory. Defaults to 16.
	Workers int

	// ShareTimeout is how long one operation on the share, or a mount command,
	// may take. Defaults to 30 s.
	ShareTimeout time.Duration

	// Logger takes what an operator wants to know. Defaults to discarding it.
	Logger *slog.Logger
}

const (
	defaultDir          = "~/.kitt/models"
	defaultWorkers      = 16
	maxWorkers          = 64
	defaultShareTimeout = 30 * time.Second
	releaseTimeout      = time.Minute
)

// Local is the [Storage] on this machine's disk, with copies from a share.
type Local struct {
	cfg      Config
	gates    *gates
	command  commandRunner
	mounting chan struct{} // one mount command at a time
	closing  chan struct{} // closed by Close

	mu      sync.Mutex
	state   state
	plan    []string
	places  map[string]*place
	flights map[string]*flight
	closed  bool
	work    sync.WaitGroup // flights, and copies that are written to disk
}

// state is the settings as they are used: with absolute paths.
type state struct {
	Settings
	dir string
}

var (
	_ Storage    = (*Local)(nil)
	_ Planner    = (*Local)(nil)
	_ Configurer = (*Local)(nil)
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
		cfg: cfg, gates: newGates(cfg.ShareTimeout), command: runCommand, mounting: make(chan struct{}, 1), closing: make(chan struct{}),
		state: st, places: map[string]*place{}, flights: map[string]*flight{},
	}, nil
}

// resolve makes the settings' paths absolute and checks them.
func (cfg Config) resolve(s Settings) (state, error) {
	const remedy = "set an absolute path"
	if s.Dir == "" {
		s.Dir = defaultDir
	}
	st := state{Settings: s, dir: path.Clean(expandHome(s.Dir, cfg.Home))}
	var faults []error
	check := func(name, p string) {
		if !path.IsAbs(p) || p == "/" || strings.ContainsFunc(p, isControl) {
			faults = append(faults, fail(ClassSettings, remedy, "%s %q cannot be used", name, p))
		}
	}
	check("model_storage_dir", st.dir)
	if s.ShareMount != "" {
		st.ShareMount = path.Clean(expandHome(s.ShareMount, cfg.Home))
		check("model_share_mount", st.ShareMount)
		_, in := below(st.ShareMount, st.dir)
		_, around := below(st.dir, st.ShareMount)
		if in || around || st.dir == st.ShareMount {
			faults = append(faults, fail(ClassSettings, "keep them apart", "model_storage_dir %q and model_share_mount %q are inside each other", st.dir, st.ShareMount))
		}
	}
	if strings.HasPrefix(s.ShareSource, "-") || strings.ContainsFunc(s.ShareSource, isControl) {
		faults = append(faults, fail(ClassSettings, "write it as server:/path", "model_share_source %q cannot be used", s.ShareSource))
	}
	return st, errors.Join(faults...)
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }

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
			if slices.Contains(m.Requests, model) {
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
	st, p, closed := l.state, l.places[l.state.dir], l.closed
	l.mu.Unlock()
	if closed {
		return st, nil, errClosed
	}
	if p == nil {
		err := l.gates.probe(ctx, mountOf(st.dir), &opOpen, st.dir, func() error {
			if create {
				if err := os.MkdirAll(st.dir, 0o755); err != nil {
					return err
				}
			}
			opened, err := openPlace(st.dir)
			if err != nil {
				return err
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.closed {
				return errors.Join(errClosed, opened.root.Close())
			}
			if l.places[st.dir] != nil {
				return opened.root.Close()
			}
			l.places[st.dir] = opened
			return nil
		})
		if errors.Is(err, fs.ErrNotExist) && !create {
			return st, nil, nil
		}
		if err != nil {
			if classOf(err) == "" {
				err = &Error{Kind: ClassUnreadable, Text: "the storage directory cannot be used: " + err.Error(),
					Remedy: "make it, and give the agent's user write access to it", Err: err}
			}
			return st, nil, err
		}
		l.mu.Lock()
		p = l.places[st.dir]
		l.mu.Unlock()
		if p == nil {
			return st, nil, errClosed
		}
		if p.used() {
			if err := p.finishRemovals(ctx); err != nil {
				l.cfg.Logger.WarnContext(ctx, "interrupted removals are left", "dir", p.dir, "err", err)
			}
		}
	}
	return st, p, nil
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
		if lease, err = l.acquireOnce(ctx, req, name, out, mayClean); !errors.Is(err, errAgain) {
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

// localPath returns where in the storage directory the model is, without links,
// or an empty text.
func (l *Local) localPath(p *place, st state, name modelName) (string, error) {
	var rel string
	for _, base := range []string{st.dir, p.dir, st.ShareMount} {
		if r, ok := below(base, name.abs); ok {
			rel = r
			break
		}
	}
	if name.abs == "" {
		rel = name.rel()
	}
	if rel == "" {
		return p.asked(name.text)
	}
	if reserved(rel) {
		return "", fail(ClassInvalid, "name a model", "%q is the storage's own", name.text)
	}
	return p.find(rel)
}

// asked returns the path of the copy that was made for a request of that text.
func (p *place) asked(text string) (string, error) {
	all, err := p.copies()
	if err != nil {
		return "", explain("list the copies in", p.dir, err)
	}
	for _, m := range all {
		if slices.Contains(m.Requests, text) {
			return m.Path, nil
		}
	}
	return "", nil
}

// find returns the path without links of the model at rel, or an empty text if
// there is none. A directory that is there only because copies are below it is
// no model.
func (p *place) find(rel string) (string, error) {
	real, err := p.resolve(rel)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return "", nil
	}
	if err != nil {
		return "", explain("look for", rel, err)
	}
	if real == "." || reserved(real) {
		return "", fail(ClassInvalid, "name a model", "%q is the storage's own", rel)
	}
	info, err := p.root.Lstat(real)
	if err != nil {
		return "", explain("look for", rel, err)
	}
	if !info.IsDir() && !info.Mode().IsRegular() {
		return "", fail(ClassInvalid, "name a directory or a file", "%q is neither a directory nor a file", rel)
	}
	if info.IsDir() {
		shell, err := p.shell(real)
		if err != nil || shell {
			return "", err
		}
	}
	return real, nil
}

// shell reports whether the directory rel holds nothing but copies of ours,
// whole or not, and empty directories.
func (p *place) shell(rel string) (bool, error) {
	if m, err := p.copyAround(rel); m != nil || err != nil {
		return false, err
	}
	foreign := false
	err := filepath.WalkDir(p.abs(rel), func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(p.dir, at)
		if err != nil {
			return err
		}
		m, err := p.copyAt(below)
		switch {
		case err != nil:
			return err
		case d.IsDir() && (m != nil || isOurs(d.Name())):
			return filepath.SkipDir
		case !d.IsDir() && m == nil:
			foreign = true
			return filepath.SkipAll
		}
		return nil
	})
	if err != nil {
		return false, explain("look at", rel, err)
	}
	return !foreign, nil
}

// inPlace returns the path without links of a model elsewhere on this machine,
// or an empty text.
func (l *Local) inPlace(ctx context.Context, st state, name modelName) (string, error) {
	if name.abs == "" {
		return "", nil
	}
	for _, base := range []string{st.dir, st.ShareMount} {
		if _, ok := below(base, name.abs); ok {
			return "", nil
		}
	}
	var found string
	err := l.gates.probe(ctx, mountOf(name.abs), &opStat, name.abs, func() error {
		real, err := filepath.EvalSymlinks(name.abs)
		if err != nil {
			return err
		}
		info, err := os.Stat(real)
		if err != nil {
			return err
		}
		if !info.IsDir() && !info.Mode().IsRegular() {
			return fail(ClassInvalid, "name a directory or a file", "%q is neither a directory nor a file", name.text)
		}
		found = real
		return nil
	})
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return "", nil
	default:
		return "", explain("look for", name.text, err)
	}
	if _, ok := below(st.ShareMount, found); ok {
		return "", nil // a link to the share: it is to be copied
	}
	return found, nil
}

// leaseLocal returns a lease on what is at rel in the storage directory.
func (l *Local) leaseLocal(ctx context.Context, p *place, rel string, req Request, origin string, auto bool, out *report) (*Lease, error) {
	m, err := p.copyAround(rel)
	if err != nil {
		return nil, explain("look at the copy of", rel, err)
	}
	if m == nil {
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
			if m, err = p.copyAt(taken.Path); m != nil {
				err = errors.Join(err, p.touch(m.Path))
			}
		}
		unlock()
		if err != nil {
			return explain("release", taken.Path, err)
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

// Usage implements [Storage]. It returns in time even if the disk hangs.
func (l *Local) Usage(ctx context.Context) (Usage, error) {
	st, p, err := l.at(ctx, false)
	if err != nil {
		return Usage{}, err
	}
	var u Usage
	err = l.gates.probe(ctx, mountOf(st.dir), &opStat, st.dir, func() error {
		var (
			now Usage
			err error
		)
		if now.FreeBytes, now.UsedBytes, err = statSpace(st.dir); err != nil {
			return err
		}
		if p != nil {
			copies, others, err := p.inventory()
			if err != nil {
				return err
			}
			now.ModelCount = len(copies) + len(others)
		}
		u = now
		return nil
	})
	if err != nil {
		return Usage{}, explain("look at the space of", st.dir, err)
	}
	return u, nil
}

// inventory lists our copies, and what else lies at the top of the storage
// directory, except for directories that only hold copies.
func (p *place) inventory() (copies []*manifest, others []string, err error) {
	if copies, err = p.copies(); err != nil {
		return nil, nil, err
	}
	dir, err := p.root.Open(".")
	if err != nil {
		return nil, nil, err
	}
	names, err := dir.Readdirnames(-1)
	if err = errors.Join(err, dir.Close()); err != nil {
		return nil, nil, err
	}
	slices.Sort(names)
	for _, name := range names {
		if strings.HasPrefix(name, ".") {
			continue
		}
		if slices.ContainsFunc(copies, func(m *manifest) bool { return inside(name, m.Path) }) {
			continue
		}
		others = append(others, name)
	}
	return copies, others, nil
}
