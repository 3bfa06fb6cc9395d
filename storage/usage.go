package storage

import (
	"context"
	"errors"
	"slices"
	"strings"
)

// Usage implements [Storage]. It returns in time even if the disk hangs.
func (l *Local) Usage(ctx context.Context) (Usage, error) {
	st, p, err := l.at(ctx, false)
	if err != nil {
		return Usage{}, err
	}
	var u Usage
	err = l.gates.probe(ctx, mountOf(st.dir), &opStat, st.dir, func() error {
		var (
			now Usage
			err error
		)
		if now.FreeBytes, now.UsedBytes, err = statSpace(st.dir); err != nil {
			return err
		}
		if p != nil {
			copies, others, err := p.inventory()
			if err != nil {
				return err
			}
			now.ModelCount = len(copies) + len(others)
		}
		u = now
		return nil
	})
	if err != nil {
		return Usage{}, explain("look at the space of", st.dir, err)
	}
	return u, nil
}

// inventory lists our copies, and what else lies at the top of the storage
// directory, except for directories that only hold copies.
func (p *place) inventory() (copies []*manifest, others []string, err error) {
	if copies, err = p.copies(); err != nil {
		return nil, nil, err
	}
	dir, err := p.root.Open(".")
	if err != nil {
		return nil, nil, err
	}
	names, err := dir.Readdirnames(-1)
	if err = errors.Join(err, dir.Close()); err != nil {
		return nil, nil, err
	}
	slices.Sort(names)
	for _, name := range names {
		if strings.HasPrefix(name, ".") {
			continue
		}
		if slices.ContainsFunc(copies, func(m *manifest) bool { return inside(name, m.Path) }) {
			continue
		}
		others = append(others, name)
	}
	return copies, others, nil
}
