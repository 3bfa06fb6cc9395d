package storage

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/kirizan/kitt-agent/storage/internal/beneath"
	"github.com/kirizan/kitt-agent/storage/internal/iofault"
	"github.com/kirizan/kitt-agent/storage/internal/modelset"
)

// Usage implements [Storage]. It returns in time even if the disk hangs.
func (l *Local) Usage(ctx context.Context) (Usage, error) {
	v, err := l.view(ctx, false)
	if err != nil {
		return Usage{}, err
	}
	var u Usage
	err = l.watchdog.probe(ctx, mountOf(v.st.dir), &opStat, v.st.dir, func() error {
		now, err := v.usage()
		if err == nil {
			u = now // after a timeout nothing reads u
		}
		return err
	})
	if err != nil {
		return Usage{}, iofault.Explain("check the space of", v.st.dir, err)
	}
	return u, nil
}

// DiskSpace returns how many bytes of the file system that holds dir are free for this
// user and how many are used. dir need not exist yet. It waits for a disk that hangs.
func DiskSpace(dir string) (free, used int64, err error) { return futureDiskSpace(dir) }

func (v view) usage() (u Usage, err error) {
	if u.FreeBytes, u.UsedBytes, err = futureDiskSpace(v.st.dir); err != nil || v.dir == nil {
		return u, err
	}
	copies, others, err := v.dir.inventory()
	u.ModelCount = len(copies) + len(others)
	return u, err
}

// inventory lists the copies, and what else is at the top of the storage directory
// except for directories that contain copies.
func (d *modelDir) inventory() (copies []*manifest, others []string, err error) {
	if copies, err = d.copies.all(); err != nil {
		return nil, nil, err
	}
	dir, err := d.root.Open(".")
	if err != nil {
		return nil, nil, err
	}
	names, err := dir.Readdirnames(-1)
	if err = errors.Join(err, dir.Close()); err != nil {
		return nil, nil, err
	}
	slices.Sort(names)
	for _, name := range names {
		if strings.HasPrefix(name, ".") || modelset.Foreign(name) {
			continue
		}
		if slices.ContainsFunc(copies, func(m *manifest) bool { return beneath.Inside(name, m.Path) }) {
			continue
		}
		others = append(others, name)
	}
	return copies, others, nil
}
