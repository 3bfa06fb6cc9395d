package supervisor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner/internal/procfs"
)

// ErrTaken is matched by the error of a Run that found that its benchmark was
// begun before, by itself or by another supervisor.
var ErrTaken = errors.New("this benchmark was begun before")

// Lock takes the lock of the run in dir, which is released when the file is
// closed. It returns nil if another process has it.
func Lock(dir string) (*os.File, error) {
	path := filepath.Join(dir, LockFile)
	f, err := create(path, 0)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case err == nil, errors.Is(err, unix.ENOLCK), errors.Is(err, unix.EOPNOTSUPP):
		return f, nil // without locks on this file system, the claim decides
	case errors.Is(err, unix.EWOULDBLOCK):
		return nil, f.Close()
	}
	f.Close()
	return nil, fmt.Errorf("lock %s: %w", path, err)
}

// claim makes started.json, durably and exclusively.
func claim(dir, label string) (Claim, error) {
	self, _ := procfs.Lookup(os.Getpid())
	host, _ := os.Hostname()
	c := Claim{Version: Version, Boot: base.BootID(), Host: host, Label: label, Supervisor: self.ID, At: time.Now().UTC()}
	text, err := encode(c)
	if err != nil {
		return c, err
	}
	path := filepath.Join(dir, ClaimFile)
	f, err := create(path, os.O_EXCL)
	if errors.Is(err, os.ErrExist) {
		return c, taken(dir)
	}
	if err != nil {
		return c, fmt.Errorf("claim the benchmark: %w", err)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close(), base.SyncDir(dir)); err != nil {
		// Nothing was begun, so that the claim may be made again.
		return c, errors.Join(fmt.Errorf("claim the benchmark: %w", err), os.Remove(path))
	}
	return c, nil
}

// WriteSoon replaces started.json in dir, without waiting for the disk.
func (c Claim) WriteSoon(dir string) error { return replaceSoon(dir, ClaimFile, c) }

// taken returns the error for a run that was claimed before. It matches ErrTaken if
// the claim can be read.
func taken(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, ClaimFile))
	if err != nil {
		return err
	}
	c, err := decode[Claim](ClaimFile, text)
	if err != nil {
		return fmt.Errorf("claimed before, and by whom can't be read: %w", err)
	}
	return fmt.Errorf("%w, by process %d on %s at %s", ErrTaken, c.Supervisor.PID, base.Printable(c.Host, 64), c.At.Format(time.RFC3339))
}
