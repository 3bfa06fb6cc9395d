// Package latefuse mounts one directory several times, as NFS clients do: each mount
// caches names, missing names and attributes, and so sees late what another one has
// changed. Its tests run jobs of a Slurm cluster whose nodes have another mount of the
// shared directory than the agent.
package latefuse

import (
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// Mount mounts dir at mnt. What other mounts change is seen late by up to the time late.
func Mount(dir, mnt string, late time.Duration) (*fuse.Server, error) {
	root, err := fs.NewLoopbackRoot(dir)
	if err != nil {
		return nil, err
	}
	return fs.Mount(mnt, root, &fs.Options{
		AttrTimeout: &late, EntryTimeout: &late, NegativeTimeout: &late,
		MountOptions: fuse.MountOptions{DirectMount: true, FsName: "latefuse", Name: "latefuse"},
	})
}
