package storage

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"path"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/storage/internal/modelcopy"
)

// Config configures a [Local]. The zero value is usable.
type Config struct {
	// Settings are the initial settings; Configure changes them. An empty Dir means
	// ~/.kitt/models. They come from the machine's owner: a share is mounted at
	// ShareMount wherever that is. At a mount point that only Configure named, a share
	// is mounted only if that is below /mnt, /media or /srv.
	Settings

	// Owner identifies this agent among those that share the storage directory. Each
	// lease belongs to one owner. It should not change.
	Owner string

	// Home replaces a leading ~ in paths. Defaults to [HomeDir].
	Home string

	// ModelDirs are directories within which symbolic links of models on this machine
	// may lead anywhere. Without them the links of a model may lead to the storage
	// directory if it is there, to the repository of a Hugging Face cache if it is
	// there, and else only into the model itself. A leading ~ is the home directory.
	ModelDirs []string

	// KeepFree is how many bytes of the disk a copy leaves free. Defaults to 0.
	KeepFree int64

	// MaxBytes is how many bytes all copies together may take. The least recently
	// used ones are removed before a copy would exceed it. Zero means no limit.
	MaxBytes int64

	// Workers is how many parts of large files are copied in parallel from a network,
	// from 1 to 64. Of small files, which mostly wait for an answer, up to four times
	// as many are. Each worker takes 1 MiB of memory. Defaults to 16.
	Workers int

	// ShareTimeout is how long one operation on the share, or a mount command, may
	// take. Defaults to 30 s.
	ShareTimeout time.Duration

	// OpenDir, if set, opens the storage directory, and makes it if create is set. It
	// returns the directory and its path without links. It can refuse a directory
	// that Configure named. The error matches fs.ErrNotExist if there is none. By
	// default any directory is used.
	OpenDir func(name string, create bool) (root *os.Root, path string, err error)

	// CheckShare, if set, can refuse a mount point that Configure named, before
	// anything on it is used. It follows the links itself. By default a share that is
	// there is used wherever that is.
	CheckShare func(mount string) error

	// CheckModel, if set, can refuse a model that would be used where it is, outside
	// of Dir and ShareMount. No directory in path is a link. By default none is refused.
	CheckModel func(path string) error

	// Logger receives what an operator wants to know. Defaults to discarding it.
	Logger *slog.Logger
}

// MaxWorkers is the largest Config.Workers.
const MaxWorkers = 64

const (
	defaultDir          = "~/.kitt/models"
	defaultWorkers      = modelcopy.DefaultWorkers
	defaultShareTimeout = 30 * time.Second
)

// HomeDir returns what ~ means by default: $HOME, or where that is no absolute path,
// the directory that the system's list of users names.
func HomeDir() (string, error) {
	if home := os.Getenv("HOME"); path.IsAbs(home) {
		return home, nil
	}
	me, err := user.Current()
	if err != nil {
		return "", err
	}
	return me.HomeDir, nil
}

// withDefaults returns cfg with defaults in place of zero values.
func (cfg Config) withDefaults() (Config, error) {
	if cfg.Workers == 0 {
		cfg.Workers = defaultWorkers
	}
	if cfg.ShareTimeout == 0 {
		cfg.ShareTimeout = defaultShareTimeout
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Home == "" {
		var err error
		if cfg.Home, err = HomeDir(); err != nil {
			return cfg, fmt.Errorf("config Home: %w", err)
		}
	}
	return cfg, nil
}

// validate checks what isn't part of the settings.
func (cfg Config) validate() error {
	var faults []error
	if cfg.Workers < 1 || cfg.Workers > MaxWorkers {
		faults = append(faults, fmt.Errorf("config Workers: %d is not from 1 to %d", cfg.Workers, MaxWorkers))
	}
	if cfg.ShareTimeout < 0 || cfg.KeepFree < 0 || cfg.MaxBytes < 0 {
		faults = append(faults, errors.New("config ShareTimeout, KeepFree, MaxBytes: must not be negative"))
	}
	return errors.Join(faults...)
}

// state is the settings with absolute paths.
type state struct {
	Settings
	dir string
}

// Check returns what is wrong with s, as New and Configure would: nil if nothing is.
func (s Settings) Check() error {
	cfg, err := Config{}.withDefaults()
	if err == nil {
		_, err = cfg.resolve(s)
	}
	return err
}

// resolve checks settings and makes their paths absolute.
func (cfg Config) resolve(s Settings) (state, error) {
	const remedy = "set an absolute path"
	if s.Dir == "" {
		s.Dir = defaultDir
	}
	st := state{Settings: s, dir: path.Clean(expandHome(s.Dir, cfg.Home))}
	var faults []error
	check := func(name, p string) {
		if !path.IsAbs(p) || p == "/" || strings.ContainsFunc(p, isControl) {
			faults = append(faults, fault.New(ClassSettings, remedy, "%s %q cannot be used", name, p))
		}
	}
	check("model_storage_dir", st.dir)
	if s.ShareMount != "" {
		st.ShareMount = path.Clean(expandHome(s.ShareMount, cfg.Home))
		check("model_share_mount", st.ShareMount)
		_, in := base.Below(st.ShareMount, st.dir)
		_, around := base.Below(st.dir, st.ShareMount)
		if in || around || st.dir == st.ShareMount {
			faults = append(faults, fault.New(ClassSettings, "keep them apart", "model_storage_dir %q and model_share_mount %q are inside each other", st.dir, st.ShareMount))
		}
	}
	if strings.HasPrefix(s.ShareSource, "-") || strings.ContainsFunc(s.ShareSource, isControl) {
		faults = append(faults, fault.New(ClassSettings, "write it as server:/path", "model_share_source %q cannot be used", s.ShareSource))
	}
	return st, errors.Join(faults...)
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }
