package storage

import (
	"context"
	"errors"
	"io/fs"
	"path"

	"github.com/kirizan/kitt-agent/storage/internal/beneath"
	"github.com/kirizan/kitt-agent/storage/internal/iofault"
)

// lease returns a lease on what is at rel in the storage directory.
func (a *acquisition) lease(ctx context.Context, rel string) (*Lease, error) {
	m, err := a.dir.copies.around(rel)
	if err != nil {
		return nil, iofault.Explain("check the copy of", rel, err)
	}
	if m == nil {
		if err := a.checkForeign(ctx, rel); err != nil {
			return nil, err
		}
		lease, err := a.useLocal(ctx, a.dir.dir, rel, OriginLocal)
		if err == nil {
			lease.Name = rel
		}
		return lease, err
	}
	taken, err := a.dir.takeLease(ctx, m.Path, a.l.cfg.Owner, a.req, func() error {
		now, err := a.dir.copies.at(m.Path)
		if err == nil && now == nil {
			err = errChanged
		}
		if err != nil {
			return err
		}
		return a.dir.copies.touch(m.Path)
	})
	if errors.Is(err, errChanged) {
		return nil, err
	}
	if err != nil {
		return nil, iofault.Explain("take a lease on", m.Path, err)
	}
	err = a.checkCopy(ctx, m)
	var lease *Lease
	if err == nil {
		lease, err = a.copyLease(ctx, m, rel, taken)
	}
	if err == nil {
		a.out.line("using " + lease.Path)
		return lease, nil
	}
	released := a.releaser(taken, false)()
	switch {
	case !errors.Is(err, errChanged):
		return nil, errors.Join(err, released)
	case released != nil:
		return nil, released
	}
	return nil, m.in(a.dir).removeDamaged(ctx)
}

// copyLease returns the lease on what is at rel, in the copy m.
func (a *acquisition) copyLease(ctx context.Context, m *manifest, rel string, taken leaseFile) (*Lease, error) {
	if rel == m.Path && m.Main != "" {
		rel = path.Join(rel, string(m.Main))
	}
	whole, err := a.wholeLocal(ctx, a.dir.dir, rel)
	if err != nil {
		return nil, err
	}
	lease := whole.lease(a.dir.dir, OriginLocal, a.releaser(taken, a.auto()))
	if rel == path.Join(m.Path, string(m.Main)) {
		lease.Hash = m.Hash
	}
	if lease.Name = whole.rel; beneath.Inside(m.Path, rel) && m.Main != "" {
		lease.Name = m.Path
	}
	return lease, nil
}

// checkCopy cleans up after a crash that came just after the copy was published,
// and makes sure that no crash damaged it. It returns errChanged if one did.
func (a *acquisition) checkCopy(ctx context.Context, m *manifest) error {
	if _, err := a.dir.removeAbandoned(m.Path); err != nil {
		return iofault.Explain("remove the stage of", m.Path, err)
	}
	return m.in(a.dir).verifyAfterReboot(ctx, a.out)
}

// checkForeign makes sure that what is at rel is not a copy. While another process
// moves a copy out of sight, the copy has no manifest for a moment, but that
// process holds the lock. checkForeign returns errChanged then.
func (a *acquisition) checkForeign(ctx context.Context, rel string) error {
	err := a.dir.locked(ctx, func() error {
		m, err := a.dir.copies.around(rel)
		if err != nil {
			return iofault.Explain("check the copy of", rel, err)
		}
		if _, err := a.dir.root.Lstat(rel); m != nil || errors.Is(err, fs.ErrNotExist) {
			return errChanged
		}
		return nil
	})
	if iofault.ClassOf(err) == ClassUnreadable && ctx.Err() == nil {
		return nil // the directory is read-only, so no agent keeps copies in it
	}
	return err
}

func (a *acquisition) releaser(taken leaseFile, auto bool) func() error {
	return a.l.releaser(a.dir, taken, auto)
}
