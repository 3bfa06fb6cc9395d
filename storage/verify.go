package storage

import (
	"context"

	"github.com/kirizan/kitt-agent/storage/internal/iofault"
)

// A Verification says whether a copy still is what was copied.
type Verification struct {
	Path    string   `json:"path"`
	Bytes   int64    `json:"bytes"`   // that were read
	Damaged []string `json:"damaged"` // files that are missing or have changed
}

// Verify reads a copy and compares it with its manifest. progress, if set, is
// called with the bytes read so far and the copy's size. The error matches
// [ErrNotFound] if the storage has no copy of the model.
func (l *Local) Verify(ctx context.Context, model string, progress func(done, total int64)) (Verification, error) {
	v, err := l.view(ctx, false)
	if err != nil {
		return Verification{}, err
	}
	if v.dir == nil {
		return Verification{}, noCopy(model)
	}
	m, err := v.copyNamed(model)
	if err != nil {
		return Verification{}, err
	}
	if m == nil {
		return Verification{}, noCopy(model)
	}
	done := Verification{Path: v.dir.abs(m.Path)}
	done.Damaged, err = m.in(v.dir).rehash(ctx, func(n int64) {
		done.Bytes += n
		if progress != nil {
			progress(done.Bytes, m.Bytes)
		}
	})
	if err != nil && ctx.Err() == nil {
		err = iofault.Explain("verify", m.Path, err)
	}
	return done, err
}
