package storage

import (
	"context"
	"slices"
	"time"

	"github.com/kirizan/kitt-agent/storage/internal/iofault"
)

// A Copy is a model that the storage copied.
type Copy struct {
	Path       string        `json:"path"`        // absolute
	Model      string        `json:"model"`       // path below the storage directory
	Source     string        `json:"source"`      // the share it came from
	SourcePath string        `json:"source_path"` // path on the share
	Copied     time.Time     `json:"copied"`      // when; zero for an unfinished copy
	LastUsed   time.Time     `json:"last_used"`
	Took       time.Duration `json:"took_ns"`
	Bytes      int64         `json:"bytes"`
	OnDisk     int64         `json:"on_disk"` // bytes that its removal frees: without blocks and files that it shares with its original
	Files      int           `json:"files"`
	Hash       string        `json:"hash"`    // of the whole model; empty if it shares blocks with the share
	Holders    []string      `json:"holders"` // of leases on it
	Partial    bool          `json:"partial"` // an unfinished copy, kept to be resumed
	Running    bool          `json:"running"` // it is being copied, by this agent or another one
}

// A Transfer is a copy that this storage is making.
type Transfer struct {
	Model   string // path below the storage directory
	Started time.Time
	Waiting int // requests that wait for it
	Progress
}

// Transfers lists the copies that this storage is making, the oldest first.
func (l *Local) Transfers() []Transfer { return l.inflight.transfers() }

// List lists the copies in the storage directory by path, unfinished ones last.
func (l *Local) List(ctx context.Context) ([]Copy, error) {
	v, err := l.view(ctx, false)
	if err != nil || v.dir == nil {
		return nil, err
	}
	all, err := v.dir.copies.all()
	if err != nil {
		return nil, iofault.Explain("list the copies in", v.dir.dir, err)
	}
	var list []Copy
	for _, m := range all {
		leases, err := v.dir.leases.of(m.Path)
		if err != nil {
			return nil, iofault.Explain("list the leases in", v.dir.dir, err)
		}
		list = append(list, m.describe(v.dir, leases))
	}
	running, abandoned, err := v.dir.claims.list("")
	if err != nil {
		return nil, iofault.Explain("list the unfinished copies in", v.dir.dir, err)
	}
	for i, c := range slices.Concat(running, abandoned) {
		if slices.ContainsFunc(all, func(m *manifest) bool { return m.Path == c.rel() }) {
			continue // it has just been published
		}
		list = append(list, Copy{Path: v.dir.abs(c.rel()), Model: c.rel(), Bytes: c.Done, OnDisk: c.Done, Partial: true, Running: i < len(running)})
	}
	return list, nil
}

func (m *manifest) describe(d *modelDir, leases []leaseFile) Copy {
	c := Copy{Path: d.abs(m.Path), Model: m.Path, Source: m.Source, SourcePath: string(m.SourcePath), Copied: m.Copied, LastUsed: m.lastUsed,
		Took: time.Duration(m.Took * float64(time.Second)), Bytes: m.Bytes, OnDisk: m.onDisk(), Files: m.Files, Hash: m.Hash}
	for _, l := range leases {
		c.Holders = append(c.Holders, l.Holder)
	}
	return c
}
