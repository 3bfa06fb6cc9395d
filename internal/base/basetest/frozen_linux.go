package basetest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The requests that freeze and thaw a file system (ioctl_fifreeze(2), linux/fs.h).
const (
	fiFreeze = 0xc0045877
	fiThaw   = 0xc0045878
)

// A FreezableDir is a directory on a file system of its own, on which every write hangs
// from Freeze until Thaw, as on a disk that does not answer.
type FreezableDir struct {
	Path string

	root   *os.File
	frozen bool
}

// Freezable makes a file system of 64 MiB in a file in dir and mounts it below dir. It
// needs root, mkfs.ext4 and a loop device. The caller closes it.
func Freezable(dir string) (*FreezableDir, error) {
	d := &FreezableDir{Path: filepath.Join(dir, "frozen")}
	image := filepath.Join(dir, "image")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		return nil, err
	}
	if err := errors.Join(os.Truncate(image, 64<<20), os.Mkdir(d.Path, 0o700)); err != nil {
		return nil, err
	}
	for _, command := range [][]string{{"mkfs.ext4", "-q", image}, {"mount", "-o", "loop", image, d.Path}} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%v: %w: %s", command, err, out)
		}
	}
	var err error
	if d.root, err = os.Open(d.Path); err != nil {
		return nil, errors.Join(err, unix.Unmount(d.Path, unix.MNT_DETACH))
	}
	return d, nil
}

// Freeze has writes hang. A second call does nothing.
func (d *FreezableDir) Freeze() error { return d.request(fiFreeze, true) }

// Thaw lets writes go on. A second call does nothing.
func (d *FreezableDir) Thaw() error { return d.request(fiThaw, false) }

func (d *FreezableDir) request(code uint, freezes bool) error {
	if d.frozen == freezes {
		return nil
	}
	d.frozen = freezes
	return unix.IoctlSetInt(int(d.root.Fd()), code, 0)
}

// Close thaws the file system and unmounts it.
func (d *FreezableDir) Close() error {
	return errors.Join(d.Thaw(), d.root.Close(), unix.Unmount(d.Path, unix.MNT_DETACH))
}
