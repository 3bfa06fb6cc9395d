package slurm

import (
	"context"
	"strings"
	"time"
)

// An ending is what Slurm says of how a job ended.
type ending struct {
	ID     string
	State  string // without "by N"
	By     string // who cancelled it, as a user ID; empty if nobody did
	Code   string // exit status and signal, such as 0:15
	Reason string
	Nodes  string
	Start  time.Time
}

const accountingFields = 7

// parseAccounting returns the newest ending among the lines of sacct, of jobs with this
// name. Its answers lag: one that says that a job runs says nothing.
func parseAccounting(text, name string) (end ending, found bool) {
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), "|", accountingFields)
		if len(f) < accountingFields || f[6] != name || !isID(f[0]) {
			continue
		}
		e := ending{ID: f[0], Code: f[2], Reason: clean(f[3]), Nodes: clean(f[4]), Start: parseTime(f[5])}
		e.setState(f[1])
		if !active[e.State] {
			end, found = e, true
		}
	}
	return end, found
}

func (e *ending) setState(text string) {
	var by string
	e.State, by, _ = strings.Cut(text, " ")
	e.By = strings.TrimPrefix(by, "by ")
	e.State = strings.TrimSuffix(e.State, "+")
}

// accounting asks sacct how the job ended. IDs are used again after the cluster was
// created again, so it asks only for jobs since then.
func (r *Runner) accounting(ctx context.Context, name string, since time.Time) (ending, bool) {
	text, err := r.slurm.run(ctx, "", "sacct", "-X", "-n", "-P", "--name="+name,
		"-S", since.UTC().Add(-time.Minute).Format("2006-01-02T15:04:05"), "-o", "JobID,State,ExitCode,Reason,NodeList,Start,JobName")
	if err != nil {
		return ending{}, false // there may be no accounting
	}
	return parseAccounting(text, name)
}

// controller asks slurmctld how the job ended, which it knows for MinJobAge.
func (r *Runner) controller(ctx context.Context, id, name string) (ending, bool) {
	if !isID(id) {
		return ending{}, false
	}
	text, err := r.slurm.run(ctx, "", "scontrol", "--oneliner", "show", "job", id)
	if err != nil {
		return ending{}, false
	}
	return parseController(text, name)
}

// parseController reads what `scontrol --oneliner show job` prints of one job.
func parseController(text, name string) (ending, bool) {
	var e ending
	var named bool
	for _, word := range strings.Fields(text) {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "JobId":
			e.ID = value
		case "JobName":
			named = value == name
		case "JobState":
			e.setState(value)
		case "Reason":
			e.Reason = clean(value)
		case "ExitCode":
			e.Code = value
		case "NodeList":
			e.Nodes = clean(value)
		case "StartTime":
			e.Start = parseTime(value)
		}
	}
	return e, named && e.State != "" && !active[e.State]
}
