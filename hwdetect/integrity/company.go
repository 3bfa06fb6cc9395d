package integrity

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/kirizan/kitt-agent/hwdetect"
)

const (
	maxForeign    = 100
	maxNeighbours = 100
	maxObserved   = 100
)

// company looks who else is on the machine during a run. Its fields are owned by the
// goroutine that runs it until that has ended.
type company struct {
	rec    *Recording
	looked bool               // whether this is not the first look at the run
	failed bool               // whether processes could not be listed last time
	ids    map[processKey]int // index into the report's Foreign
}

type processKey struct{ gpu, pid int }

func newCompany(rec *Recording, resumed bool) *company {
	c := &company{rec: rec, looked: resumed, ids: map[processKey]int{}}
	for i, p := range rec.report.Foreign {
		c.ids[processKey{p.GPU, p.PID}] = i
	}
	return c
}

// run looks every second for phases, and every few seconds for the rest, until ctx is
// done.
func (c *company) run(ctx context.Context) {
	ticker := time.NewTicker(phasePause)
	defer ticker.Stop()
	var again time.Time
	for {
		news := c.lookForPhases()
		if now := time.Now(); !now.Before(again) {
			news = c.look(ctx) || news
			again = now.Add(processPause - phasePause/2)
		}
		if news {
			if err := c.rec.write(); err != nil {
				c.rec.recorder.cfg.Logger.Warn("report on the machine not written", "err", err)
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// look records which processes use the GPUs now, and reports whether one is new.
func (c *company) look(ctx context.Context) (news bool) {
	now := time.Now().Round(0)
	first := !c.looked
	c.looked = true
	news = c.lookForNeighbours(now)
	news = c.watch(ctx, now) || news
	if c.rec.run.Foreign == nil {
		return news
	}
	r := c.rec.recorder
	list, err := r.Foreign(ctx, c.rec.run.Foreign)
	if ctx.Err() != nil {
		return news
	}
	report := &c.rec.report
	if err != nil {
		if !c.failed && !errors.Is(err, hwdetect.ErrAbsent) { // the verdict says that nobody can list them
			r.cfg.Logger.Debug("gpu processes not listed", "err", err)
			c.rec.gap(Gap{What: gapProcesses, Reason: gapReason(err), From: &now})
		}
		c.failed = true
		return news
	}
	c.failed, report.ForeignKnown = false, true
	for _, p := range list {
		news = c.note(p, now, first) || news
	}
	return news
}

// note notes a foreign process, and reports whether it is new. before is whether it was
// there when the run began.
func (c *company) note(p hwdetect.GPUProcess, now time.Time, before bool) (news bool) {
	list := &c.rec.report.Foreign
	key := processKey{p.GPU, p.PID}
	i, known := c.ids[key]
	if !known {
		if len(*list) == maxForeign {
			return false
		}
		i = len(*list)
		c.ids[key] = i
		*list = append(*list, ForeignProcess{
			GPU: p.GPU, PID: p.PID, Command: p.Command, Owner: p.Owner, First: now, Before: before,
		})
	}
	f := &(*list)[i]
	f.Last = now
	widen(new(*float64), &f.MaxSMPct, p.SMPct)
	if p.MemoryBytes != nil && (f.MemoryBytes == nil || *p.MemoryBytes > *f.MemoryBytes) {
		f.MemoryBytes = p.MemoryBytes
	}
	return !known
}

// watch notes what is wrong at the moment, and reports whether anything is new.
func (c *company) watch(ctx context.Context, now time.Time) (news bool) {
	if c.rec.run.Watch == nil {
		return false
	}
	found, err := ask(ctx, c.rec.recorder.watches, processLimit, func(ctx context.Context) ([]Reason, error) {
		return c.rec.run.Watch(ctx), nil
	})
	if err != nil || ctx.Err() != nil {
		return false
	}
	list := &c.rec.report.Observed
	for _, r := range found {
		i := slices.IndexFunc(*list, func(o Reason) bool { return o.Code == r.Code && o.Text == r.Text })
		if i < 0 {
			if len(*list) == maxObserved {
				continue
			}
			r.First = &now
			*list = append(*list, r)
			i, news = len(*list)-1, true
		}
		(*list)[i].Last = &now
	}
	return news
}

// lookForPhases notes the phases that the benchmark has named since the last look, and
// reports whether there are any.
func (c *company) lookForPhases() (news bool) {
	if c.rec.run.PhaseFile == "" {
		return false
	}
	// A benchmark that names none has no such file.
	names, _ := readPhases(c.rec.run.PhaseFile, len(c.rec.report.Phases))
	return c.rec.report.addPhases(names, time.Now().Round(0))
}

// lookForNeighbours notes the other runs, and reports whether one is new.
func (c *company) lookForNeighbours(now time.Time) (news bool) {
	if c.rec.run.Neighbours == nil {
		return false
	}
	list := &c.rec.report.Neighbours
	for _, name := range c.rec.run.Neighbours() {
		i := slices.IndexFunc(*list, func(n Neighbour) bool { return n.Name == name })
		if i < 0 {
			if len(*list) == maxNeighbours {
				continue
			}
			*list = append(*list, Neighbour{Name: name, First: now})
			i, news = len(*list)-1, true
		}
		(*list)[i].Last = now
	}
	return news
}
