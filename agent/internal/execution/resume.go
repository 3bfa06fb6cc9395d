package execution

import (
	"context"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
)

// ResumeAll continues jobs that held a slot, each from the state in which it was
// left; the table of jobs.State says how. Jobs that are to be abandoned come first,
// and nothing else begins until their benchmarks have ended: it would share the GPUs
// with them. It returns early when ctx is done.
func (e *Executor) ResumeAll(ctx context.Context, begun []*jobs.Job) {
	var abandoned []<-chan struct{}
	var rest []*jobs.Job
	for _, j := range begun {
		if j.Record().Abandoned() {
			abandoned = append(abandoned, e.Start(j))
		} else {
			rest = append(rest, j)
		}
	}
	for _, over := range abandoned {
		select {
		case <-over:
		case <-ctx.Done():
			return
		}
	}
	for _, j := range rest {
		e.Start(j)
	}
}
