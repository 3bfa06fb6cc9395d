package storage

import (
	"context"
	"errors"
	"time"

	"github.com/kirizan/kitt-agent/storage/internal/iofault"
)

// releaser returns what releases a lease. With auto it removes the copy after its
// last lease, unless a waiting job wants it.
func (l *Local) releaser(dir *modelDir, taken leaseFile, auto bool) func() error {
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
		defer cancel()
		var unused *manifest
		err := dir.locked(ctx, func() error {
			last, err := dir.leases.releaseLocked(taken)
			if err != nil || !last {
				return err
			}
			if unused, err = dir.copies.at(string(taken.Path)); unused != nil {
				err = errors.Join(err, dir.copies.touch(unused.Path))
			}
			return err
		})
		if err != nil {
			return iofault.Explain("release the lease on", string(taken.Path), err)
		}
		if unused == nil || !auto || l.wanted(l.current())(unused) {
			return nil
		}
		return l.removeUnused(ctx, dir, unused)
	}
}

// releaseTimeout is how long a release waits for the storage directory's lock.
const releaseTimeout = time.Minute

// removeUnused removes a copy after its last lease.
func (l *Local) removeUnused(ctx context.Context, dir *modelDir, m *manifest) error {
	kept, err := m.in(dir).remove(ctx, false)
	if err != nil {
		return iofault.Explain("remove", m.Path, err)
	}
	if kept != "" {
		l.cfg.Logger.Info("model copy kept", "model", m.Path, "reason", kept)
		return nil
	}
	l.cfg.Logger.Info("model copy removed", "model", m.Path, "bytes", m.Bytes)
	return nil
}

// ReleaseExcept ends the leases of this storage's owner whose holder keep rejects,
// such as those of jobs that have ended. It returns their holders.
func (l *Local) ReleaseExcept(ctx context.Context, keep func(holder string) bool) ([]string, error) {
	v, err := l.view(ctx, false)
	if err != nil || v.dir == nil {
		return nil, err
	}
	all, err := v.dir.leases.all()
	if err != nil {
		return nil, iofault.Explain("list the leases in", v.dir.dir, err)
	}
	var ended []string
	for _, lease := range all {
		if lease.Owner != l.cfg.Owner || lease.Nonce == "" || keep(lease.Holder) {
			continue
		}
		if err := l.releaser(v.dir, lease, v.st.AutoCleanup)(); err != nil {
			return ended, err
		}
		ended = append(ended, lease.Holder)
	}
	return ended, nil
}
