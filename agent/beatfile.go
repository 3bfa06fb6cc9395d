package agent

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
)

// beatFile is the file in Config.Dir with the latest heartbeat.
const beatFile = "heartbeat.json"

// lastBeat is the content of the file. Keys are only added.
type lastBeat struct {
	Version int       `json:"version"`
	AgentID string    `json:"agent_id"`
	At      time.Time `json:"at,omitzero"`  // of the latest acknowledged heartbeat, by the server's clock; zero if it is not known
	Open    bool      `json:"open"`         // whether another one was sent whose answer is not known
	Two     bool      `json:"two,omitzero"` // whether another agent was seen that has not gone
	identity
}

// run writes changes of the file until ctx is done, and the last ones after that. In
// between it sees whether this machine and directory are still the same.
func (d *duplicates) run(ctx context.Context) {
	if d.server == nil {
		return
	}
	written, wrote := d.onDisk, false
	for {
		changed, last := d.changed.Wait(), ctx.Err() != nil
		d.checkIdentity(wrote)
		if now := d.current(); now != written {
			if err := writeBeat(d.dir, now); err != nil {
				d.notices.LogOnce("heartbeat file", func() { d.log.Warn("latest heartbeat not written", "err", err) })
			} else {
				written, wrote = now, true
			}
		}
		if last {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

func (d *duplicates) current() lastBeat {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.saved
}

// checkIdentity compares this machine and directory with those at the start, and with
// what is in the file if this agent has written it.
func (d *duplicates) checkIdentity(wrote bool) {
	d.mu.Lock()
	before := d.id
	d.mu.Unlock()
	if !readIdentity(d.dir).sameOwner(before) {
		d.report("this machine or its state directory was replaced while the agent ran")
	}
	var there lastBeat
	if wrote && base.ReadJSON(filepath.Join(d.dir, beatFile), &there, maxMemory) == nil && !there.sameOwner(before) {
		d.report("an agent on another machine uses this agent's state directory")
	}
}

// writeBeat writes the file. Each heartbeat changes it, and what a power cut takes of it
// costs the next start some time only, so it is not synced.
func writeBeat(dir string, now lastBeat) error {
	text, err := base.EncodeJSON(now)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, beatFile)
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
