package slurm

import (
	"context"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// An entry is what squeue says of one job.
type entry struct {
	ID        string
	State     string // as squeue prints it in full, such as PENDING
	Reason    string
	Start     time.Time // when it started or is expected to; zero if unknown
	Submitted time.Time
	Limit     string // time limit, as Slurm prints it
	Nodes     string // empty for a job that was never allocated
}

// queueFormat is that of squeue -o. The name comes last, as it may hold anything.
const queueFormat = "%i|%T|%r|%S|%V|%l|%N|%j"

const queueFields = 8

// parseQueue returns the jobs whose names begin with prefix, by name.
func parseQueue(text, prefix string) map[string][]entry {
	jobs := map[string][]entry{}
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), "|", queueFields)
		if len(f) < queueFields || !strings.HasPrefix(f[7], prefix) || !isID(f[0]) {
			continue
		}
		jobs[f[7]] = append(jobs[f[7]], entry{
			ID: f[0], State: f[1], Reason: clean(f[2]), Start: parseTime(f[3]), Submitted: parseTime(f[4]), Limit: clean(f[5]), Nodes: clean(f[6]),
		})
	}
	return jobs
}

// clean removes what Slurm prints in place of nothing.
func clean(text string) string {
	switch text {
	case "None", "N/A", "(null)", "Unknown", "None assigned":
		return ""
	}
	return text
}

// parseTime reads a time as Slurm's commands print it with TZ=UTC.
func parseTime(text string) time.Time {
	t, _ := time.Parse("2006-01-02T15:04:05", text)
	return t
}

// parseLimit reads a time limit as squeue prints it: [days-]hours:minutes:seconds, of
// which the first may be missing. It returns 0 for none.
func parseLimit(text string) time.Duration {
	days, clock, found := strings.Cut(text, "-")
	if !found {
		days, clock = "0", text
	}
	d, err := strconv.ParseUint(days, 10, 16)
	parts := strings.Split(clock, ":")
	if err != nil || len(parts) > 3 {
		return 0
	}
	var seconds uint64
	for _, part := range parts {
		n, err := strconv.ParseUint(part, 10, 16)
		if err != nil {
			return 0
		}
		seconds = seconds*60 + n
	}
	return time.Duration(d)*24*time.Hour + time.Duration(seconds)*time.Second
}

// active are the states of a job that holds nodes or waits for them. All others are
// ends.
var active = map[string]bool{
	"PENDING": true, "RUNNING": true, "SUSPENDED": true, "COMPLETING": true, "CONFIGURING": true, "RESIZING": true,
	"REQUEUED": true, "REQUEUE_FED": true, "REQUEUE_HOLD": true, "SIGNALING": true, "STAGE_OUT": true, "STOPPED": true,
	"RESV_DEL_HOLD": true, "SPECIAL_EXIT": true,
}

func (e entry) over() bool { return !active[e.State] }
func (e entry) waiting() bool {
	return e.State == "PENDING" || strings.HasPrefix(e.State, "REQUEUE") || e.State == "SPECIAL_EXIT"
}

// A snapshot is one answer of squeue.
type snapshot struct {
	at   time.Time // when squeue was asked
	jobs map[string][]entry
}

// A queue asks squeue on behalf of all jobs of a Runner.
type queue struct {
	slurm  commands
	prefix string
	turn   chan struct{} // held by the one who asks
	last   atomic.Pointer[answer]
	calls  atomic.Int64 // of squeue
}

// An answer is a snapshot, or why there is none.
type answer struct {
	snapshot
	err error
}

func newQueue(slurm commands, prefix string) *queue {
	return &queue{slurm: slurm, prefix: prefix, turn: make(chan struct{}, 1)}
}

// look returns what squeue says if it was asked after since, and asks it otherwise. One
// caller asks, and the others wait for the answer.
func (q *queue) look(ctx context.Context, since time.Time) (*snapshot, error) {
	fresh := func() *answer {
		if a := q.last.Load(); a != nil && a.at.After(since) {
			return a
		}
		return nil
	}
	a := fresh()
	if a == nil {
		select {
		case q.turn <- struct{}{}:
			defer func() { <-q.turn }()
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if a = fresh(); a == nil {
			a = q.ask(ctx)
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			q.last.Store(a)
		}
	}
	if a.err != nil {
		return nil, a.err
	}
	return &a.snapshot, nil
}

// ask calls squeue. With one user given, the controller sends that user's jobs only.
func (q *queue) ask(ctx context.Context) *answer {
	q.calls.Add(1)
	a := &answer{snapshot: snapshot{at: time.Now()}}
	text, err := q.slurm.run(ctx, "", "squeue", "--noheader", "--states=all", "--user="+strconv.Itoa(os.Getuid()), "--format="+queueFormat)
	a.jobs, a.err = parseQueue(text, q.prefix), err
	return a
}
