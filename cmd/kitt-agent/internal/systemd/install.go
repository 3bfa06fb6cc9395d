package systemd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// systemDir is where an administrator's units are (systemd.unit(5)).
const systemDir = "/etc/systemd/system"

// maxFile is how much of a unit file is read, in bytes.
const maxFile = 1 << 20

// FilePath returns where the unit's file belongs.
func (u Unit) FilePath() (string, error) {
	if !u.User {
		return filepath.Join(systemDir, u.Name), nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("directory of the user's units: %w", err)
	}
	return filepath.Join(dir, "systemd", "user", u.Name), nil
}

// ReadFile returns the text of the unit's file, an empty one if there is none.
func (u Unit) ReadFile() (string, error) {
	path, err := u.FilePath()
	if err != nil {
		return "", err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile))
	return string(text), err
}

// WriteFile writes the unit's file, whole or not at all. systemd is not told:
// see Reload.
func (u Unit) WriteFile(ctx context.Context, text string) error {
	path, err := u.FilePath()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "kitt-agent-unit-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	draft := filepath.Join(dir, u.Name)
	if err := os.WriteFile(draft, []byte(text), 0o600); err != nil {
		return err
	}
	// install(1) and mv(1), because they can be run through sudo. systemd takes
	// no file of that name for a unit.
	next := path + ".new"
	if _, err := u.asRoot(ctx, "install", "-D", "-m", "0644", "--", draft, next); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if _, err := u.asRoot(ctx, "mv", "-f", "-T", "--", next, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// RemoveFile removes the unit's file. systemd is not told: see Reload.
func (u Unit) RemoveFile(ctx context.Context) error {
	path, err := u.FilePath()
	if err != nil {
		return err
	}
	if _, err := u.asRoot(ctx, "rm", "-f", "--", path); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}

// Enable has the unit started at boot, or at the user's login. It reads no unit
// files again, as systemctl enable would by itself.
func (u Unit) Enable(ctx context.Context) error {
	if err := u.control(ctx, "enable", "--no-reload", "--quiet", u.Name); err != nil {
		return fmt.Errorf("enable %s: %w", u.Name, err)
	}
	return nil
}

// Disable undoes Enable, and does not reload unit files either.
func (u Unit) Disable(ctx context.Context) error {
	if err := u.control(ctx, "disable", "--no-reload", "--quiet", u.Name); err != nil {
		return fmt.Errorf("disable %s: %w", u.Name, err)
	}
	return nil
}

// Start starts the unit and returns once the service says that it is ready.
func (u Unit) Start(ctx context.Context) error {
	if err := u.control(ctx, "start", u.Name); err != nil {
		return fmt.Errorf("start %s: %w", u.Name, err)
	}
	return nil
}

// Stop stops the unit, which it may not run, and returns once its main process
// is gone.
func (u Unit) Stop(ctx context.Context) error {
	if err := u.control(ctx, "stop", u.Name); err != nil {
		return fmt.Errorf("stop %s: %w", u.Name, err)
	}
	return nil
}

// Reload has systemd reload all unit files. That of the machine can take the
// GPUs away from containers that run: systemd then sets the devices of each
// container to those that it was told of, and NVIDIA's are not among them.
func (u Unit) Reload(ctx context.Context) error {
	if err := u.control(ctx, "daemon-reload"); err != nil {
		return fmt.Errorf("have systemd read its unit files: %w", err)
	}
	return nil
}

// Forget clears the memory of a unit that failed.
func (u Unit) Forget(ctx context.Context) error {
	if err := u.control(ctx, "reset-failed", u.Name); err != nil {
		return fmt.Errorf("reset %s: %w", u.Name, err)
	}
	return nil
}
