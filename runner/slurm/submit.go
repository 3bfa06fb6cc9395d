package slurm

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
)

// errRefused is matched by the error of a submission that Slurm has refused.
var errRefused = errors.New("refused by Slurm")

// A refusal is how sbatch says that it can't submit such a job. Texts are from
// slurm_errno.c and the options of sbatch, of Slurm 20.11 to 24.05.
type refusal struct{ text, fix string }

var refusals = []refusal{
	{"Invalid account", "set slurm.account to one of: sacctmgr show associations user=$USER"},
	{"Invalid partition", "set slurm.partition to one of: sinfo"},
	{"invalid partition", "set slurm.partition to one of: sinfo"},
	{"User's group not permitted to use this partition", "set slurm.partition to one that this user may use"},
	{"Invalid qos", "set slurm.qos to one of: sacctmgr show associations user=$USER"},
	{"Requested time limit is invalid", "set slurm.time to less than the partition's MaxTime: scontrol show partition"},
	{"Invalid --time", "set slurm.time"},
	{"Requested node configuration is not available", "set slurm.gpus to what a node has: sinfo -o '%N %G'"},
	{"Invalid generic resource", "set slurm.gpus and slurm.gpu_type to what a node has: sinfo -o '%N %G'"},
	{"Node count specification invalid", "change slurm.args"},
	{"CPU count per node can not be satisfied", "change slurm.args"},
	{"Memory required by task is not available", "lower --mem in slurm.args"},
	{"Memory specification can not be satisfied", "lower --mem in slurm.args"},
	{"Invalid feature specification", "change --constraint in slurm.args"},
	{"Invalid license specification", "change --licenses in slurm.args"},
	{"Invalid wckey", "change --wckey in slurm.args"},
	{"Requested reservation is invalid", "change --reservation in slurm.args"},
	{"Access denied to requested reservation", "change --reservation in slurm.args"},
	{"Access/permission denied", "ask the cluster's administrator what this user may submit"},
	{"violates accounting/QOS policy", "ask the cluster's administrator what this user may submit"},
	{"violates accounting policy", "ask the cluster's administrator what this user may submit"},
	{"unrecognized option", "change slurm.args"},
	{"unrecognised option", "change slurm.args"},
	{"invalid option", "change slurm.args"},
	{"Invalid node name specified", "change --nodelist or --exclude in slurm.args"},
	{"Invalid user id", "make the agent's user known to the cluster"},
	{"Invalid job array", "change slurm.args"},
}

// refused returns the error for a submission that Slurm has certainly refused, and nil
// if it may have been accepted.
func refused(err error) error {
	e, ok := errors.AsType[*commandError](err)
	if !ok || errors.Is(err, errDeadline) {
		return nil
	}
	for _, r := range refusals {
		if strings.Contains(e.text, r.text) {
			return &runner.Error{
				Class: ClassRefused, Text: "Slurm refused the job: " + e.text, Fix: r.fix, Err: errors.Join(errRefused, err),
			}
		}
	}
	return nil
}

// arguments returns those of sbatch for a job by this name.
func (r *Runner) arguments(job runner.Job, name string) []string {
	dir := directory(job)
	args := []string{
		"--parsable", "--job-name=" + name, "--dependency=singleton", "--no-requeue", "--open-mode=append", "--nodes=1", "--ntasks=1",
		"--output=" + escapePattern(filepath.Join(dir, logFile)), "--chdir=/", "--export=ALL",
		// Slurm itself kills soon after the time limit, and sends this earlier.
		"--signal=B:TERM@" + strconv.Itoa(int(job.Grace().Round(time.Second)/time.Second)+signalEarly),
	}
	option := func(name, value string) {
		if value != "" {
			args = append(args, "--"+name+"="+value)
		}
	}
	option("partition", r.cfg.Partition)
	option("account", r.cfg.Account)
	option("qos", r.cfg.QOS)
	if r.cfg.Time > 0 {
		option("time", strconv.Itoa(int((r.cfg.Time+time.Minute-1)/time.Minute)))
	}
	if r.cfg.GPUs > 0 {
		gres := "gpu:"
		if r.cfg.GPUType != "" {
			gres += r.cfg.GPUType + ":"
		}
		option("gres", gres+strconv.Itoa(r.cfg.GPUs))
	}
	if r.cfg.Exclusive {
		args = append(args, "--exclusive")
	}
	return append(args, r.cfg.Args...)
}

// signalEarly is how many seconds the wrapper gets after the grace to write how the
// benchmark ended.
const signalEarly = 5

// escapePattern has sbatch take a path as it is, in which % begins a pattern.
func escapePattern(path string) string { return strings.ReplaceAll(path, "%", "%%") }

// sbatch submits the job and returns its ID.
func (f *follower) sbatch(ctx context.Context) (string, error) {
	// The script comes by standard input; its argument follows /dev/stdin.
	args := append(f.r.arguments(f.job, f.intent.Name), "/dev/stdin", filepath.Join(directory(f.job), specFile))
	text, err := f.r.slurm.run(ctx, f.intent.Script, "sbatch", args...)
	if err != nil {
		return "", err
	}
	id, _, _ := strings.Cut(strings.TrimSpace(text), ";") // a cluster may follow
	if !isID(id) {
		return "", &commandError{"sbatch", fmt.Sprintf("it printed %q in place of a job's ID", base.Printable(text, 100)), errors.New("no ID")}
	}
	return id, nil
}

// submit submits the job, at most once as far as that can be known, and returns once it
// is known by which ID. With inDoubt it may have been submitted before. The error matches
// errRefused if the job was refused, and otherwise the cause of ctx.
func (f *follower) submit(ctx context.Context, inDoubt bool) error {
	for {
		if inDoubt {
			found, err := f.find(ctx)
			if err != nil || found {
				return err
			}
		}
		id, err := f.sbatch(ctx)
		switch {
		case err == nil:
			f.say("submitted to Slurm as job %s", id)
			f.submitted = time.Now()
			f.setIDs([]string{id})
			f.saveIDs(ctx)
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		if err := refused(err); err != nil {
			return err // also after doubt: the job was looked for in vain
		}
		f.say("Slurm did not say whether it took the job: %v; looking for it by its name", err)
		inDoubt = true
	}
}

// find looks for the job by its name until Slurm has answered for Config.Settle. If it
// finds it, it adopts it.
func (f *follower) find(ctx context.Context) (bool, error) {
	var (
		first time.Time // of an answer without the job
		said  bool
	)
	for {
		look, err := f.r.queue.look(ctx, time.Now())
		switch {
		case ctx.Err() != nil:
			return false, context.Cause(ctx)
		case err != nil:
			first = time.Time{} // it was away meanwhile
			if !said {
				said = true
				f.say("Slurm does not answer: %v; waiting for it", err)
			}
		case len(look.jobs[f.intent.Name]) > 0 || f.claimed():
			var ids []string
			for _, e := range look.jobs[f.intent.Name] {
				ids = append(ids, e.ID)
			}
			f.say("found the job in Slurm: %s", strings.Join(ids, ", "))
			f.setIDs(ids)
			f.saveIDs(ctx)
			return true, nil
		case first.IsZero():
			first = look.at
		case look.at.Sub(first) > f.r.cfg.Settle:
			if end, found := f.r.accounting(ctx, f.intent.Name, f.intent.At); found {
				f.setIDs([]string{end.ID})
				f.saveIDs(ctx)
				return true, nil
			}
			return false, context.Cause(ctx)
		}
		if base.Wait(ctx, min(f.r.cfg.Poll, max(f.r.cfg.Settle/4, minPause))) != nil {
			return false, context.Cause(ctx)
		}
	}
}

// minPause is the least time between two questions to Slurm about one job.
const minPause = 100 * time.Millisecond

// saveIDs writes which IDs the job has. They are found again by its name where the disk
// refuses that.
func (f *follower) saveIDs(ctx context.Context) {
	_, err := base.Persist(ctx, nil, func() (struct{}, error) {
		return struct{}{}, writeState(directory(f.job), submittedFile, submitted{version, f.jobIDs()})
	})
	if err != nil {
		f.r.cfg.Logger.WarnContext(ctx, "Slurm's job ID not saved", "job", f.job.ID, "err", err)
	}
}

func (f *follower) setIDs(ids []string) {
	ids = slices.Clone(ids)
	f.ids.Store(&ids)
}

func (f *follower) jobIDs() []string {
	if ids := f.ids.Load(); ids != nil {
		return *ids
	}
	return nil
}
