package storage

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/storage/internal/iofault"
)

// Reasons why a cleanup keeps something.
const (
	notCopied  = "it was not copied by the agent"
	inProgress = "it is being copied"
)

// Evict implements [Storage]. The word __cleanup__ means every copy, as an empty
// string does. Whatever else is in the storage directory is listed as kept. The
// error matches [ErrNotFound] if there is nothing of that name.
func (l *Local) Evict(ctx context.Context, model string) (Eviction, error) {
	v, err := l.view(ctx, false)
	if err != nil {
		return Eviction{}, err
	}
	all := model == "" || model == cleanupAll
	if v.dir == nil {
		if all {
			return Eviction{}, nil
		}
		return Eviction{}, noCopy(model)
	}
	c := cleanup{view: v, log: l.cfg.Logger}
	if all {
		err = c.all(ctx)
	} else {
		err = c.one(ctx, model)
	}
	return c.done, err
}

func noCopy(model string) error {
	return &Error{Class: ClassNotFound, Text: "there is no copy of " + base.Names(model),
		Fix: "see: kitt-agent models list", Err: ErrNotFound}
}

// A cleanup is one call of Evict.
type cleanup struct {
	view
	log  *slog.Logger
	done Eviction
}

// all removes every copy that may be removed.
func (c *cleanup) all(ctx context.Context) error {
	copies, others, err := c.dir.inventory()
	if err != nil {
		return iofault.Explain("list the copies in", c.dir.dir, err)
	}
	for _, m := range copies {
		if err := c.remove(ctx, m); err != nil {
			return err
		}
	}
	for _, name := range others {
		if !c.holdsOnlyUnfinished(name) {
			c.keep(c.dir.abs(name), notCopied)
		}
	}
	running, abandoned, err := c.dir.claims.list("")
	if err != nil {
		return iofault.Explain("list the unfinished copies in", c.dir.dir, err)
	}
	for _, r := range running {
		c.keep(c.dir.abs(r.rel()), inProgress)
	}
	for _, a := range abandoned {
		if err := c.removeAbandoned(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// one removes the copy of one model.
func (c *cleanup) one(ctx context.Context, model string) error {
	m, err := c.copyNamed(model)
	if err != nil {
		return err
	}
	if m != nil {
		return c.remove(ctx, m)
	}
	name, err := parseModel(model, c.home)
	if err != nil {
		return err
	}
	_, abandoned, err := c.dir.claims.list("")
	if err != nil {
		return iofault.Explain("list the unfinished copies in", c.dir.dir, err)
	}
	paths, _ := name.candidates(c.st.dir, c.st.ShareMount, false)
	for _, a := range abandoned {
		if slices.Contains(paths, a.rel()) {
			return c.removeAbandoned(ctx, a)
		}
	}
	return c.keepOther(ctx, name)
}

// keepOther says why a model without a copy stays.
func (c *cleanup) keepOther(ctx context.Context, name modelName) error {
	rel, err := c.local(name)
	if err != nil {
		return err
	}
	if rel != "" {
		reason := notCopied
		if m, err := c.dir.copies.around(rel); err != nil {
			return err
		} else if m != nil {
			reason = "it is part of the copy of " + m.Path
		}
		c.keep(c.dir.abs(rel), reason)
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if name.abs != "" && !strings.HasPrefix(name.abs, c.st.dir+"/") {
		if real, _, err := c.inPlace(ctx, name); err == nil && real != "" {
			c.keep(real, "it is not in the storage directory")
			return nil
		}
	}
	return noCopy(name.text)
}

func (c *cleanup) keep(path, reason string) {
	c.done.Kept = append(c.done.Kept, Kept{Path: path, Reason: reason})
}

// holdsOnlyUnfinished reports whether a directory contains nothing but unfinished
// copies.
func (c *cleanup) holdsOnlyUnfinished(rel string) bool {
	info, err := c.dir.root.Lstat(rel)
	if err != nil || !info.IsDir() {
		return false
	}
	only, err := c.dir.holdsOnlyCopies(rel)
	return err == nil && only
}

func (c *cleanup) remove(ctx context.Context, m *manifest) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	at := c.dir.abs(m.Path)
	kept, err := m.in(c.dir).remove(ctx, false)
	if err != nil {
		return iofault.Explain("remove", m.Path, err)
	}
	if kept != "" {
		c.keep(at, kept)
		return nil
	}
	c.done.Removed = append(c.done.Removed, at)
	c.done.BytesFreed += m.onDisk()
	c.log.InfoContext(ctx, "model copy removed", "model", m.Path, "bytes", m.Bytes)
	return nil
}

// removeAbandoned removes an abandoned copy and the directories made for it.
func (c *cleanup) removeAbandoned(ctx context.Context, a claim) error {
	stage := c.dir.stage(a.rel())
	_, err := os.Lstat(stage)
	staged := err == nil
	removed, err := c.dir.removeAbandoned(a.rel())
	if err != nil {
		return iofault.Explain("remove", stage, err)
	}
	if !removed {
		return nil
	}
	if staged {
		c.done.Removed = append(c.done.Removed, stage)
		c.done.BytesFreed += a.Done
	}
	return c.dir.locked(ctx, func() error { // other agents make directories for their copies
		c.dir.pruneParents(a.rel(), a.parents())
		return nil
	})
}
