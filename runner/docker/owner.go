package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"

	"github.com/kirizan/kitt-agent/runner"
)

var _ runner.Owner = (*Runner)(nil)

// containerID is an id in the name of a control group, as Docker's two drivers make
// them: /docker/ID and docker-ID.scope.
var containerID = regexp.MustCompile(`[0-9a-f]{64}`)

// maxGroupFile is the most that is read of /proc/PID/cgroup, in bytes.
const maxGroupFile = 64 << 10

// containersIn returns the ids of containers in the text of /proc/PID/cgroup
// (cgroups(7)). A container within a container has several.
func containersIn(groups []byte) []string {
	ids := containerID.FindAllString(string(groups[:min(len(groups), maxGroupFile)]), -1)
	slices.Sort(ids)
	return slices.Compact(ids)
}

// Owns returns the processes in containers of the jobs: the benchmarks' own, those of
// the engines that they started, and engines without a label that mount a job's model or
// results.
func (r *Runner) Owns(ctx context.Context, jobs []runner.Job, pids []int) (own []int, err error) {
	in := map[int][]string{}
	for _, pid := range pids {
		// A process that has ended is in none.
		groups, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
		if ids := containersIn(groups); len(ids) > 0 {
			in[pid] = ids
		}
	}
	if len(in) == 0 || len(jobs) == 0 {
		return nil, nil // the engine need not be asked
	}
	ours, err := r.containersOf(ctx, jobs)
	for _, pid := range pids {
		if slices.ContainsFunc(in[pid], func(id string) bool { return ours[id] }) {
			own = append(own, pid)
		}
	}
	return own, err
}

// containersOf returns the ids of the jobs' containers.
func (r *Runner) containersOf(ctx context.Context, jobs []runner.Job) (map[string]bool, error) {
	ours := map[string]bool{}
	named := func(id string) bool {
		return slices.ContainsFunc(jobs, func(j runner.Job) bool { return j.ID == id })
	}
	var errs []error
	for _, label := range []string{LabelCommand, LabelEngine} {
		list, err := r.labelled(ctx, label, LabelOwner+"="+r.config.Owner)
		errs = append(errs, err)
		for _, c := range list {
			if named(c.Labels[label]) {
				ours[c.ID] = true
			}
		}
	}
	siblings, err := r.siblings(ctx)
	errs = append(errs, err)
	for _, c := range siblings {
		ours[c.ID] = ours[c.ID] || slices.ContainsFunc(jobs, func(j runner.Job) bool { return mountsOf(c, j) })
	}
	return ours, errors.Join(errs...)
}
