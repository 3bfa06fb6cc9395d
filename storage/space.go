package storage

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/storage/internal/iofault"
)

// A reservation is the space that one copy needs.
type reservation struct {
	dir      *modelDir
	claim    *os.File
	rel      string
	made     int   // claim.Made
	bytes    int64 // still needed on disk
	whole    int64 // including what is copied already
	keepFree int64 // bytes to leave free
	limit    int64 // bytes that all copies may take; 0 for no limit
	wanted   func(*manifest) bool
	note     func(string)
}

// reserve claims the space. If there is too little it removes copies: first the
// abandoned ones, then those without a lease, the least recently used first and
// those that a waiting job wants last. It removes nothing if that would not be
// enough.
func (r *reservation) reserve(ctx context.Context) error {
	tried := map[string]bool{}
	for {
		var short int64
		err := r.dir.locked(ctx, func() (err error) {
			if short, err = r.shortLocked(); err != nil {
				return iofault.Explain("check the space of", r.dir.dir, err)
			}
			if short > 0 {
				return nil
			}
			return iofault.Explain("claim space in", r.dir.dir, writeClaim(r.claim, claim{Path: rawText(r.rel), Left: r.bytes, Done: r.whole - r.bytes, Size: r.whole, Made: r.made}))
		})
		if err != nil || short <= 0 {
			return err
		}
		c, err := r.candidates(tried)
		if err != nil {
			return iofault.Explain("check the copies in", r.dir.dir, err)
		}
		if c.bytes() < short {
			return r.tooSmall(short, c)
		}
		if err := r.removeOne(ctx, c, tried); err != nil {
			return err
		}
	}
}

// shortLocked returns how many bytes are missing. The lock must be held.
func (r *reservation) shortLocked() (int64, error) {
	running, abandoned, err := r.dir.claims.list(r.rel)
	if err != nil {
		return 0, err
	}
	free, _, err := diskSpace(r.dir.dir)
	if err != nil {
		return 0, err
	}
	avail := free - r.keepFree
	for _, c := range running {
		avail -= c.Left
	}
	short := r.bytes - avail
	if r.limit == 0 {
		return short, nil
	}
	all, err := r.dir.copies.all()
	if err != nil {
		return 0, err
	}
	total := r.whole
	for _, m := range all {
		total += m.onDisk()
	}
	for _, c := range running {
		total += c.Size
	}
	for _, c := range abandoned {
		total += c.Done
	}
	return max(short, total-r.limit), nil
}

// removable are copies that can be removed to make room, in that order, and those
// that can't.
type removable struct {
	abandoned []claim
	idle      []*manifest
	busy      []*manifest // leased
}

// bytes returns how much the removals would free.
func (c removable) bytes() (sum int64) {
	for _, a := range c.abandoned {
		sum += a.Done
	}
	for _, m := range c.idle {
		sum += m.onDisk()
	}
	return sum
}

// candidates lists the copies without those that were tried already.
func (r *reservation) candidates(tried map[string]bool) (c removable, err error) {
	if _, c.abandoned, err = r.dir.claims.list(r.rel); err != nil {
		return c, err
	}
	c.abandoned = slices.DeleteFunc(c.abandoned, func(a claim) bool { return tried[a.rel()] })
	all, err := r.dir.copies.all()
	if err != nil {
		return c, err
	}
	for _, m := range all {
		holders, err := r.dir.leases.of(m.Path)
		switch {
		case err != nil:
			return c, err
		case len(holders) > 0:
			c.busy = append(c.busy, m)
		case !tried[m.Path]:
			c.idle = append(c.idle, m)
		}
	}
	slices.SortStableFunc(c.idle, func(a, b *manifest) int {
		if wa, wb := r.wanted(a), r.wanted(b); wa != wb {
			if wa {
				return 1
			}
			return -1
		}
		return a.lastUsed.Compare(b.lastUsed)
	})
	return c, nil
}

// removeOne removes the first candidate, unless it is in use by now.
func (r *reservation) removeOne(ctx context.Context, c removable, tried map[string]bool) error {
	if len(c.abandoned) > 0 {
		rel := c.abandoned[0].rel()
		tried[rel] = true
		removed, err := r.dir.removeAbandoned(rel)
		if removed {
			r.note("removed the unfinished copy of " + rel + " to make room")
		}
		return iofault.Explain("remove", rel, err)
	}
	m := c.idle[0]
	tried[m.Path] = true
	kept, err := m.in(r.dir).remove(ctx, false)
	if err == nil && kept == "" {
		r.note(fmt.Sprintf("removed the copy of %s (%s), the least recently used, to make room", m.Path, base.Size(m.Bytes)))
	}
	return iofault.Explain("remove", m.Path, err)
}

// tooSmall says what is missing and which copies could be removed.
func (r *reservation) tooSmall(short int64, c removable) error {
	text := fmt.Sprintf("no room for %s in %s: it needs %s, %s too much", r.rel, r.dir.dir, base.Size(r.bytes), base.Size(short))
	if len(c.idle) > 0 {
		text += fmt.Sprintf("; copies that could be removed would free %s: %s", base.Size(c.bytes()), sizesOf(c.idle))
	} else {
		text += "; there are no copies that could be removed"
	}
	if len(c.busy) > 0 {
		text += "; in use: " + sizesOf(c.busy)
	}
	return &Error{Class: ClassSpace, Text: text, Fix: "free space on that disk, or set another storage directory"}
}

// sizesOf lists some copies with their sizes.
func sizesOf(copies []*manifest) string {
	var names []string
	for _, m := range copies {
		names = append(names, fmt.Sprintf("%s (%s)", m.Path, base.Size(m.Bytes)))
	}
	if len(names) > 5 {
		names = append(names[:5], fmt.Sprintf("%d more", len(names)-5))
	}
	return strings.Join(names, ", ")
}
