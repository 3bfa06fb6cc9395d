package main

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/internal/base"
)

// releaseAfter is how long after a job's delivery its memory is released: its log is
// compressed first.
const releaseAfter = time.Second

// releaseMemory returns to the system what a job took, once its reports have been
// delivered, until ctx is done. By itself the runtime keeps it for minutes, on a
// machine that others use.
func releaseMemory(ctx context.Context, a *agent.Agent) {
	for e := range a.Events(ctx) {
		if e.Kind == agent.EventDelivered && base.Wait(ctx, releaseAfter) == nil {
			debug.FreeOSMemory()
		}
	}
}
