package storage

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/kirizan/kitt-agent/storage/internal/iofault"
)

// localKinds are file systems of this machine's own disks and memory.
var localKinds = []string{"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "tmpfs", "overlay"}

// noteUnmounted says so if the share's mount point has files in it but is only a
// directory of a local disk. They may be what somebody wrote there while the share
// was not mounted.
func (m *mounter) noteUnmounted(ctx context.Context, st state, note func(string)) error {
	local := false
	err := m.watchdog.probe(ctx, st.ShareMount, &opMount, st.ShareMount, func() error {
		dir, err := filepath.EvalSymlinks(st.ShareMount)
		if err != nil {
			return err
		}
		mounts, err := mountPoints()
		on := holding(mounts, dir)
		local = on.path != dir && slices.Contains(localKinds, on.kind)
		return err
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return iofault.Explain("look for the mount at", st.ShareMount, err)
	}
	if local {
		note(fmt.Sprintf("warning: %s is not mounted at %s; the files in that directory of a local disk are taken for the share (unless that is meant: move them away, and the share is mounted)",
			st.ShareSource, st.ShareMount))
	}
	return nil
}

// holding returns the mount point that path is on, of the last of several there.
func holding(mounts []mountPoint, path string) (on mountPoint) {
	for _, p := range mounts {
		if p.holds(path) && len(p.path) >= len(on.path) {
			on = p
		}
	}
	return on
}
