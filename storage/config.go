package storage

import (
	"errors"
	"log/slog"
	"path"
	"strings"
	"time"
)

// Config says how a [Local] storage works. Its zero value is usable.
type Config struct {
	// Settings are those to begin with; Configure changes them. An empty Dir
	// means ~/.kitt/models. They are the machine's own: a share is mounted at
	// ShareMount wherever that is, but at a place that only Configure named only
	// if it is below /mnt, /media or /srv.
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

	// Workers is how many parts of large files are copied at once from a
	// network, from 1 to 64; of small files, which mostly wait for an answer, it
	// is up to four times as many. Each takes 1 MiB of memory. Defaults to 16.
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

// state is the settings as they are used: with absolute paths.
type state struct {
	Settings
	dir string
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
