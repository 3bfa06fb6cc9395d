package storage

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/storage/internal/beneath"
	"github.com/kirizan/kitt-agent/storage/internal/modelset"
)

// Local is the [Storage] on this machine's disk, with copies from a share.
type Local struct {
	cfg      Config // set once in New
	watchdog *watchdog
	mounter  *mounter
	dirs     *openDirs
	inflight *inflightCopies

	closeOnce sync.Once
	closing   chan struct{} // closed by Close

	mu    sync.Mutex
	state state    // guarded by mu
	plan  []string // guarded by mu
}

var (
	_ Storage     = (*Local)(nil)
	_ Planner     = (*Local)(nil)
	_ Configurer  = (*Local)(nil)
	_ LeaseKeeper = (*Local)(nil)
)

var errClosed = &Error{Class: ClassClosed, Text: "the storage is closed"}

// New returns a storage. It touches no file until it is used.
func New(cfg Config) (*Local, error) {
	cfg, err := cfg.withDefaults()
	st, resolveErr := cfg.resolve(cfg.Settings)
	if err := errors.Join(err, cfg.validate(), resolveErr); err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	dog := newWatchdog(cfg.ShareTimeout)
	return &Local{
		cfg: cfg, watchdog: dog, mounter: newMounter(dog, st.ShareMount, cfg.CheckShare), dirs: newOpenDirs(cfg.OpenDir), inflight: newInflightCopies(),
		closing: make(chan struct{}), state: st,
	}, nil
}

// Settings returns the current settings, with the default for an empty Dir.
func (l *Local) Settings() Settings { return l.current().Settings }

// Dir returns the storage directory as an absolute path.
func (l *Local) Dir() string { return l.current().dir }

// current returns the current settings.
func (l *Local) current() state {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// Configure changes the settings for the next Acquire. If they make no sense it
// returns an error, and the old ones stay.
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

// Plan says which models waiting jobs will request.
func (l *Local) Plan(models []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.plan = slices.Clone(models)
}

// wanted returns a function that reports whether a waiting job will request a
// copy.
func (l *Local) wanted(st state) func(*manifest) bool {
	l.mu.Lock()
	plan := slices.Clone(l.plan)
	l.mu.Unlock()
	return func(m *manifest) bool {
		return slices.ContainsFunc(plan, func(model string) bool { return l.cfg.means(model, st, m) })
	}
}

// means reports whether a request for model would get the copy m.
func (cfg Config) means(model string, st state, m *manifest) bool {
	if slices.Contains(m.Requests, rawText(model)) {
		return true
	}
	name, err := parseModel(model, cfg.Home)
	if err != nil {
		return false
	}
	paths, search := name.candidates(st.dir, st.ShareMount, false)
	last := name.parts[len(name.parts)-1]
	return slices.ContainsFunc(paths, func(rel string) bool {
		return beneath.Inside(m.Path, rel) || slices.Contains(modelset.FirstParts(rel), m.Path)
	}) || search && (path.Base(m.Path) == last || slices.Contains(modelset.FirstParts(last), path.Base(m.Path)))
}

// closeTimeout is how long Close waits for copies to end.
const closeTimeout = 10 * time.Second

// Close cancels the copies in progress and waits up to 10 s for their end: a share
// that hangs or a slow disk doesn't hold it up. Leases stay. It may be called more
// than once.
func (l *Local) Close() error {
	l.closeOnce.Do(func() { close(l.closing) })
	l.dirs.refuse()
	select {
	case <-l.inflight.close():
	case <-time.After(closeTimeout):
		return nil // what hangs still uses the directories
	}
	return l.dirs.close()
}
