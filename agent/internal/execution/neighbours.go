package execution

import (
	"slices"
	"time"

	"github.com/kirizan/kitt-agent/agent/internal/gpusets"
	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/internal/base"
)

// maxNeighbours bounds how many neighbours a job's record lists.
const maxNeighbours = 100

// meet notes in the records of the job, which runs now, and of the others that do, that
// they are neighbours. Of two jobs that begin at the same time the later one notes it.
func (x *execution) meet() {
	now := time.Now()
	for _, other := range x.cfg.Queue.Active() {
		if other == x.job || !other.IsBenchmark() || other.State() != jobs.StateRunning {
			continue
		}
		overlap := x.overlap(other)
		shared := "the machine only"
		if overlap != "" {
			shared = overlap
		}
		x.jobLog.Note("Runs at the same time as job " + base.Printable(other.ID, 80) + "; both use " + shared)
		x.noteNeighbour(x.job, jobs.Neighbour{Job: other.ID, Overlap: overlap, From: now})
		x.noteNeighbour(other, jobs.Neighbour{Job: x.job.ID, Overlap: overlap, From: now})
	}
}

// overlap says what the job and another one use both.
func (x *execution) overlap(other *jobs.Job) string {
	theirs := (&execution{Executor: x.Executor, job: other}).gpus()
	return gpusets.Overlap(x.cfg.Identity().Machine, x.gpus(), theirs)
}

// noteNeighbour adds n to the record of j, unless it is there.
func (x *execution) noteNeighbour(j *jobs.Job, n jobs.Neighbour) {
	err := j.Update(func(rec *jobs.Record) {
		known := slices.ContainsFunc(rec.Neighbours, func(o jobs.Neighbour) bool { return o.Job == n.Job && o.To.IsZero() })
		if !known && len(rec.Neighbours) < maxNeighbours {
			rec.Neighbours = append(slices.Clone(rec.Neighbours), n)
		}
	})
	if err != nil {
		x.log.Warn("neighbour not written", "job", j.ID, "neighbour", n.Job, "err", err)
	}
}

// part notes in the records of the neighbours that the job has ended.
func (x *execution) part() {
	now := time.Now()
	for _, other := range x.cfg.Queue.Active() {
		if other == x.job || !slices.ContainsFunc(other.Record().Neighbours, func(n jobs.Neighbour) bool { return n.Job == x.job.ID && n.To.IsZero() }) {
			continue
		}
		if err := other.Update(func(rec *jobs.Record) { rec.Neighbours = partedFrom(rec.Neighbours, x.job.ID, now) }); err != nil {
			x.log.Warn("neighbour not written", "job", other.ID, "neighbour", x.job.ID, "err", err)
		}
	}
}

// partedFrom returns list with an end for those that have none: of one job, or of all if
// it is empty.
func partedFrom(list []jobs.Neighbour, job string, at time.Time) []jobs.Neighbour {
	list = slices.Clone(list)
	for i := range list {
		if list[i].To.IsZero() && (job == "" || list[i].Job == job) {
			list[i].To = at
		}
	}
	return list
}
