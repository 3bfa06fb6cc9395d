package storage

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/storage/internal/iofault"
)

// mountOptions are the options of every share that the agent mounts itself
// (mount(8)). It only reads models, and the server may have named the share: a
// program, a device or a set-user-ID file on it must not work here.
const mountOptions = "ro,nosuid,nodev,noexec"

// defaultMountParents returns the directories below which mount points usually
// are (hier(7)). The server may name the source and the place of a share, and
// programs, libraries or configuration anywhere else could be hidden by it or
// added to.
func defaultMountParents() []string { return []string{"/mnt", "/media", "/srv"} }

// mayMountAt reports whether a share may be mounted at dir: at the mount point
// of the machine's own configuration, or below one of its parents.
func (m *mounter) mayMountAt(dir string) bool {
	return dir == m.own || slices.ContainsFunc(m.parents, func(parent string) bool {
		_, in := base.Below(parent, dir)
		return in
	})
}

// checkPlace returns why the share is not to be at dir, whether it is there or not.
func (m *mounter) checkPlace(ctx context.Context, dir string) error {
	if m.check == nil || dir == m.own {
		return nil
	}
	err := m.watchdog.probe(ctx, dir, &opMount, dir, func() error { return m.check(dir) })
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == nil {
		return nil
	}
	err = iofault.Explain("check the share's mount point", dir, err)
	_, fix := fault.Of(err)
	return &Error{Class: ClassUnmounted, Text: strings.TrimSuffix(err.Error(), " ("+fix+")"), Fix: fix, Err: err}
}

// mountRefused returns the error for a mount point that is, or whose links lead
// to, a place where the agent mounts nothing.
func mountRefused(dir, place string) error {
	leads := ""
	if place != dir {
		leads = " leads to " + place + ", which"
	}
	return &Error{
		Class: ClassUnmounted,
		Text:  fmt.Sprintf("the share's mount point %s%s is not below /mnt, /media or /srv, so the agent does not mount it", dir, leads),
		Fix:   "mount it yourself, or set model_share_mount in agent.yaml to " + place,
	}
}

// mountTarget returns the directory at which the share for dir is to be mounted.
// Outside of the machine's own mount point that is dir with its symbolic links
// followed, which must not lead to a place where mayMountAt is false.
func (m *mounter) mountTarget(ctx context.Context, dir string) (string, error) {
	if dir == m.own {
		return dir, nil
	}
	var target string
	err := m.watchdog.probe(ctx, dir, &opMount, dir, func() (err error) {
		target, err = filepath.EvalSymlinks(dir)
		return err
	})
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		return "", iofault.Explain("follow the links of", dir, err)
	}
	for _, parent := range m.parents {
		// The parent itself may be a link that the owner made.
		if real, err := filepath.EvalSymlinks(parent); err == nil {
			if _, in := base.Below(real, target); in {
				return target, nil
			}
		}
	}
	return "", mountRefused(dir, target)
}

// asRoot returns the command line that runs a program as root, without ever
// asking for a password.
func (m *mounter) asRoot(line ...string) []string {
	if m.root {
		return line
	}
	return append([]string{"sudo", "-n"}, line...)
}

// makeMountPoint makes the directory that the share is to be mounted at. Whether
// that went well shows in the directory; the error is the end of ctx.
func (m *mounter) makeMountPoint(ctx context.Context, dir string, note func(string)) error {
	note("making the share's mount point " + dir)
	err := m.watchdog.probe(ctx, dir, &opMount, dir, func() error { return os.Mkdir(dir, 0o755) })
	if err == nil || ctx.Err() != nil {
		return context.Cause(ctx)
	}
	why := err.Error()
	if !m.root {
		why, err = m.mountCommand(ctx, dir, m.asRoot("mkdir", "--", dir))
		if err != nil {
			return err
		}
	}
	if why != "" {
		note("could not make it: " + why)
	}
	return nil
}
