package main

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
	"github.com/kirizan/kitt-agent/preflight"
	"github.com/kirizan/kitt-agent/runner/slurm"
)

// probeLimit is what the probe job may take, of which it may wait probeWait for a node.
const (
	probeLimit = 3 * time.Minute
	probeWait  = 90 * time.Second
)

// slurmChecks check what jobs on the cluster need.
func slurmChecks(cfg *config.Config) []preflight.Check {
	settings := slurmConfig(cfg)
	settings.Owner = cfg.Name
	cluster, err := slurm.New(settings)
	if err != nil {
		return []preflight.Check{preflight.Func{Label: "slurm", Must: true, Do: func(context.Context) preflight.Result { return slurmFailed(err, "") }}}
	}
	return []preflight.Check{
		preflight.Func{Label: "slurm", Must: true, Time: time.Minute, Do: func(ctx context.Context) preflight.Result {
			version, err := cluster.Version(ctx)
			if err != nil {
				return slurmFailed(err, "install Slurm's commands on this machine, and set SLURM_CONF if they need it")
			}
			if err := cluster.CheckQueue(ctx); err != nil {
				return slurmFailed(err, "scontrol ping")
			}
			return preflight.Result{Status: preflight.OK, Details: version + " answers"}
		}},
		preflight.Func{Label: "partition", Must: true, Time: time.Minute, Do: func(ctx context.Context) preflight.Result {
			nodes, err := cluster.Nodes(ctx)
			if err != nil {
				return slurmFailed(err, "sinfo")
			}
			return checkNodes(cfg.Slurm, nodes)
		}},
		preflight.Func{Label: "shared directory", Must: true, Time: probeLimit, Do: func(ctx context.Context) preflight.Result {
			ctx, cancel := context.WithTimeout(ctx, probeWait)
			defer cancel()
			node, err := cluster.Probe(ctx)
			if err != nil {
				return slurmFailed(err, "sinfo")
			}
			return preflight.Result{Status: preflight.OK, Details: fmt.Sprintf("a probe job on %s sees %s", node, settings.SharedDir)}
		}},
	}
}

// slurmFailed is failed with a fix of the cluster's.
func slurmFailed(err error, fix string) preflight.Result {
	r := failed(err)
	if r.Fix == "docker info" {
		r.Fix = cmp.Or(fix, "look at docs/slurm.md")
	}
	return r
}

// checkNodes checks that the partition has nodes on which a job can run.
func checkNodes(s config.Slurm, nodes []slurm.Node) preflight.Result {
	name := cmp.Or(s.Partition, "the default partition")
	fail := func(fix, format string, args ...any) preflight.Result {
		return preflight.Result{Status: preflight.Fail, Details: name + " " + fmt.Sprintf(format, args...), Fix: fix}
	}
	if len(nodes) == 0 {
		return fail("set slurm.partition to one of: sinfo", "has no nodes, or does not exist")
	}
	usable, up, most := 0, 0, 0
	for _, n := range nodes {
		most = max(most, n.GPUs)
		if n.GPUs < s.GPUs || s.GPUType != "" && n.GPUType != s.GPUType && s.GPUs > 0 {
			continue
		}
		if usable++; !strings.HasPrefix(n.State, "down") && !strings.HasPrefix(n.State, "drain") {
			up++
		}
		if arch := dockerArch(n.Arch); arch != "" && arch != runtime.GOARCH {
			return fail("run the agent on a machine of that architecture", "has nodes of %s, and this program is for %s", arch, runtime.GOARCH)
		}
	}
	switch {
	case usable == 0:
		return fail("set slurm.gpus and slurm.gpu_type to what a node has: sinfo -o '%N %G'", "has no node with %d GPUs of the type %s; the most is %d", s.GPUs, cmp.Or(s.GPUType, "any"), most)
	case up == 0:
		return preflight.Result{Status: preflight.Warn, Details: fmt.Sprintf("%s: all %d nodes that suit are down or drained", name, usable), Fix: "sinfo -R"}
	}
	return preflight.Result{Status: preflight.OK, Details: fmt.Sprintf("%s: %d nodes with %d GPUs each at most", name, len(nodes), most)}
}
