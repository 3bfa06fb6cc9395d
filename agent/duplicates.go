package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/agent/internal/notices"
	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/internal/base"
)

const (
	// sightingTimeout bounds a question when the server last heard of the agent.
	sightingTimeout = 5 * time.Second

	// watchFor is how long a start looks for heartbeats of another agent where it has
	// reason to. A running benchmark spaces heartbeats by up to 66 s, and after 90 s
	// the server calls an agent offline.
	watchFor   = 100 * time.Second
	watchPause = 5 * time.Second

	// While the agent runs, foreignMost heartbeats of another agent in a row show that
	// there is one: a single one may be our own that was late. After fineMost looks
	// without any, the other one is gone.
	foreignMost = 2
	fineMost    = 10
)

// A HeartbeatReader is a Server that can say when it last heard of an agent. With one,
// an agent notices that another one uses its name, such as that of a cloned machine.
type HeartbeatReader interface {
	// LastHeartbeat returns when the server last heard of the agent with this id, or
	// of the one with this name if the server knows no such id or id is empty. The
	// error matches [heartbeat.ErrUnknownAgent] if it knows neither.
	LastHeartbeat(ctx context.Context, id, name string) (Sighting, error)
}

// A Sighting is when a server last heard of an agent.
type Sighting struct {
	// At is the time by the server's clock, of which only the order counts: its zone may
	// be any. Zero for never.
	At time.Time

	Offline bool // whether the server calls the agent offline
}

// duplicates finds out whether another agent sends heartbeats under this one's name. Its
// methods are safe for concurrent use.
//
// A state directory may be a copy, and so may a machine. So the time of the
// latest heartbeat that the server acknowledged is kept in it, by the server's clock, with
// what tells this machine and directory from others.
type duplicates struct {
	name    string
	server  HeartbeatReader // nil if the server cannot be asked
	dir     string
	log     *slog.Logger
	notices *notices.Board
	onDisk  lastBeat // as load read it: it may be of another machine. set before run

	mu      sync.Mutex
	saved   lastBeat // what the file is to hold. guarded by mu, like all that follows
	id      identity // of today
	found   string   // what shows that there are two agents; empty if nothing does
	foreign int      // looks in a row that showed another agent
	fine    int      // looks in a row that showed none

	changed base.Broadcast // sent when saved changes
}

func newDuplicates(cfg Config, notices *notices.Board) *duplicates {
	d := &duplicates{name: cfg.Name, dir: cfg.Dir, log: cfg.Logger, notices: notices}
	d.server, _ = base.As[HeartbeatReader](cfg.Server)
	return d
}

// A finding is what a start knows about another agent.
type finding int

const (
	alone     finding = iota // nothing points to another agent
	uncertain                // only further looks can tell
)

// examine looks for another agent before this one registers.
func (d *duplicates) examine(ctx context.Context) finding {
	d.load()
	if d.server == nil {
		return alone
	}
	now, err := d.look(ctx)
	d.mu.Lock()
	saved, copied := d.saved, d.saved.AgentID != "" && !d.saved.sameOwner(d.id)
	d.mu.Unlock()
	switch {
	case errors.Is(err, heartbeat.ErrUnknownAgent):
		return alone
	case err != nil && (copied || saved.Two):
		d.log.Info("this state directory is a copy, or was moved, or there were two agents: waiting for the server to say whether another agent uses its name", "err", err)
		return uncertain
	case err != nil:
		d.log.Info("it cannot be seen whether another agent uses this name", "err", err)
		return alone
	case now.At.IsZero(), now.Offline && saved.AgentID == "":
		return alone
	case saved.AgentID == "", copied, saved.Two, now.At.After(saved.At):
		// A later heartbeat may be this agent's own, which a full disk or a crash has
		// kept out of the file.
		return uncertain
	}
	return alone
}

// watch looks for heartbeats while this agent sends none. It returns true once none has
// come for long, and false when another agent has sent some or ctx is done.
func (d *duplicates) watch(ctx context.Context) (alone bool) {
	d.log.Info("looking for heartbeats of another agent with this name before anything is resumed", "for", watchFor)
	var latest time.Time
	known, foreign := false, 0
	for begun := time.Now(); time.Since(begun) < watchFor; {
		now, err := d.look(ctx)
		switch {
		case errors.Is(err, heartbeat.ErrUnknownAgent), err == nil && now.Offline:
			return true
		case err != nil:
			begun, known = time.Now(), false // nothing is known about this time
		case known && now.At.After(latest):
			if foreign++; foreign == foreignMost {
				d.report("another agent sends heartbeats, the last at " + serverTime(now.At))
				return false
			}
			begun, latest = time.Now(), now.At
		default:
			latest, known = now.At, true
		}
		if base.Wait(ctx, watchPause) != nil {
			return false
		}
	}
	return true
}

// remembers reports whether an agent before this one left its latest heartbeat here.
func (d *duplicates) remembers() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.saved.AgentID != ""
}

// look asks the server when it last heard of the agent.
func (d *duplicates) look(ctx context.Context) (Sighting, error) {
	ctx, cancel := context.WithTimeout(ctx, sightingTimeout)
	defer cancel()
	d.mu.Lock()
	id := d.saved.AgentID
	d.mu.Unlock()
	return d.server.LastHeartbeat(ctx, id, d.name)
}

// beforeBeat looks for heartbeats of another agent since this one's last, and notes that
// the next one is on its way. A benchmark is disturbed by as few requests as possible.
func (d *duplicates) beforeBeat(ctx context.Context, busy bool) {
	if d.server == nil {
		return
	}
	d.mu.Lock()
	own, open := d.saved.At, d.saved.Open
	d.mu.Unlock()
	if !own.IsZero() && !open && !busy {
		if now, err := d.look(ctx); err == nil {
			d.compare(own, now.At)
		}
	}
	d.sending()
}

// sending notes that a registration or heartbeat is on its way, whose time the server
// takes down.
func (d *duplicates) sending() {
	if d.server != nil {
		d.change(func(b *lastBeat) { b.Open = true })
	}
}

// compare counts a look that found the latest heartbeat at latest, where this agent's own
// was at own.
func (d *duplicates) compare(own, latest time.Time) {
	d.mu.Lock()
	if latest.After(own) {
		d.foreign, d.fine = d.foreign+1, 0
	} else {
		d.foreign, d.fine = 0, d.fine+1
	}
	foreign, fine := d.foreign, d.fine
	d.mu.Unlock()
	switch {
	case foreign == foreignMost:
		d.report("another agent sends heartbeats between this one's, the last at " + serverTime(latest))
	case fine == fineMost:
		d.withdraw()
	}
}

// afterBeat remembers the heartbeat that the server has just acknowledged.
func (d *duplicates) afterBeat(ctx context.Context, agentID string) {
	if d.server == nil {
		return
	}
	d.change(func(b *lastBeat) { b.AgentID = agentID })
	now, err := d.look(ctx)
	if err != nil {
		d.notices.LogOnce("no sighting", func() {
			d.log.Info("the server does not show when it last heard of this agent, so it cannot be seen whether another one uses its name", "err", err)
		})
		return
	}
	d.change(func(b *lastBeat) { b.At, b.Open = now.At, false })
}

// serverTime is a time by the server's clock, whose zone is not known.
func serverTime(t time.Time) string {
	return t.Format("15:04:05 on 2006-01-02") + " by the server's clock"
}

// two returns what shows that another agent uses this one's name; empty if nothing does.
func (d *duplicates) two() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.found
}

// report says that there are two agents. The first evidence counts.
func (d *duplicates) report(evidence string) {
	text := fmt.Sprintf("There are two agents with the name %q: %s. Nothing that they share is resumed here. "+
		"Give one of them another name and an empty state directory, or stop it, then restart the other one", d.name, evidence)
	d.mu.Lock()
	first := d.found == ""
	if first {
		d.found = text
		if d.saved.AgentID != "" {
			d.saved.Two = true
		}
	}
	d.mu.Unlock()
	d.changed.Send()
	if first {
		d.log.Error("there are two agents with this name", "name", d.name, "evidence", evidence, "dir", d.dir)
		d.notices.Warn(text)
	}
}

// withdraw says that there is one agent again.
func (d *duplicates) withdraw() {
	d.mu.Lock()
	text := d.found
	d.found, d.saved.Two = "", false
	d.mu.Unlock()
	d.changed.Send()
	if text != "" {
		d.log.Info("no other agent has sent heartbeats under this name for a while", "name", d.name)
		d.notices.Withdraw(text)
	}
}

// load reads the file.
func (d *duplicates) load() {
	var saved lastBeat
	if err := base.ReadJSON(filepath.Join(d.dir, beatFile), &saved, maxMemory); err != nil {
		saved = lastBeat{}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.onDisk, d.saved, d.id = saved, saved, readIdentity(d.dir)
}

// change changes what is remembered. It waits for no disk.
func (d *duplicates) change(change func(*lastBeat)) {
	d.mu.Lock()
	change(&d.saved)
	d.saved.Version, d.saved.identity = 1, d.id
	d.mu.Unlock()
	d.changed.Send()
}
