package storage

import (
	"context"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/storage/internal/beneath"
	"github.com/kirizan/kitt-agent/storage/internal/iofault"
)

// makeWay removes copies of parts of the model, complete or abandoned, which are
// where the model's copy belongs.
func (r *copyRun) makeWay(ctx context.Context) error {
	d, rel := r.dir, r.target
	all, err := d.copies.all()
	if err != nil {
		return iofault.Explain("list the copies in", d.dir, err)
	}
	for _, m := range all {
		if !beneath.Inside(rel, m.Path) {
			continue
		}
		kept, err := m.in(d).remove(ctx, false)
		if err != nil {
			return iofault.Explain("remove", m.Path, err)
		}
		if kept != "" {
			return fault.New(ClassConflict, "run: kitt-agent models rm "+m.Path, "%q cannot be copied: there is a copy of its part %q, which stays because %s", rel, m.Path, kept)
		}
	}
	running, abandoned, err := d.claims.list(rel)
	if err != nil {
		return iofault.Explain("list the unfinished copies in", d.dir, err)
	}
	for _, c := range running {
		if beneath.Inside(rel, c.rel()) {
			return fault.New(ClassConflict, "try again when that is done", "%q cannot be copied: its part %q is being copied", rel, c.rel())
		}
	}
	for _, c := range abandoned {
		if !beneath.Inside(rel, c.rel()) {
			continue
		}
		if _, err := d.removeAbandoned(c.rel()); err != nil {
			return iofault.Explain("remove", d.stage(c.rel()), err)
		}
	}
	return nil
}
