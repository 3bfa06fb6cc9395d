package process

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/internal/procfs"
)

var _ runner.Owner = (*Runner)(nil)

// maxGroupFile is the most that is read of /proc/PID/cgroup, in bytes.
const maxGroupFile = 64 << 10

// Owns returns the processes that were started with the environment of one of the jobs'
// runs, or that are in its control group.
func (r *Runner) Owns(ctx context.Context, jobs []runner.Job, pids []int) (own []int, err error) {
	for _, pid := range pids {
		if ctx.Err() != nil {
			return own, context.Cause(ctx)
		}
		groups, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid)) // it may have ended
		groups = groups[:min(len(groups), maxGroupFile)]
		for _, job := range jobs {
			dir := directory(job)
			if procfs.HasEnv(pid, markOf(dir)) || strings.Contains(string(groups), "/"+groupName(dir)) {
				own = append(own, pid)
				break
			}
		}
	}
	return own, nil
}
