package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/logstream"
)

// A Check is the result of comparing the jobs of a fleet with its server.
type Check struct {
	Jobs   int   `json:"jobs"`   // number of jobs that have a test on the server
	Lines  int64 `json:"lines"`  // number of lines in their logs on disk
	Lost   int64 `json:"lost"`   // lines on disk that the server lacks
	Extra  int64 `json:"extra"`  // lines that only the server has, such as duplicates
	Differ int   `json:"differ"` // jobs with another outcome, other lines or another order on the server

	// Faults describes the first 10 jobs that differ.
	Faults []string `json:"faults,omitempty"`
}

// maxFaults is the largest length of Check.Faults.
const maxFaults = 10

// OK reports whether the server has every job's outcome and every line of its log,
// once and in order.
func (c Check) OK() bool { return c.Lost == 0 && c.Extra == 0 && c.Differ == 0 }

// Check compares the outcome and the log of each job with the server's. It is for jobs
// that have ended and are delivered, for example after Run. An error means that the
// server did not answer or a log cannot be read. Config.Server must be a
// [reporter.Inquirer].
func (f *Fleet) Check(ctx context.Context) (Check, error) {
	ask, ok := f.cfg.Server.(reporter.Inquirer)
	if !ok {
		return Check{}, errors.New("fleet: Server is not a reporter.Inquirer, so jobs cannot be compared with it")
	}
	var c Check
	for _, v := range f.agents {
		for _, j := range v.agent.Jobs() {
			if j.TestID == "" {
				continue
			}
			if err := c.add(ctx, ask, v.name, j); err != nil {
				return c, fmt.Errorf("fleet: agent %s, job %s: %w", v.name, j.CommandID, err)
			}
		}
	}
	return c, nil
}

// add compares one job with the server.
func (c *Check) add(ctx context.Context, ask reporter.Inquirer, name string, j agent.JobStatus) error {
	have, err := readLog(ctx, j.Dir)
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	test, err := ask.Test(ctx, j.TestID)
	if err != nil {
		return err
	}
	rows, err := ask.LogRows(ctx, j.TestID)
	if err != nil {
		return err
	}
	var delivered []string
	if len(rows) > 0 {
		delivered = strings.Split(strings.Join(rows, "\n"), "\n")
	}
	c.Jobs++
	c.Lines += int64(len(have))
	lost, extra := difference(have, delivered)
	c.Lost += lost
	c.Extra += extra
	end := reporter.Failed
	if j.State == agent.StateCompleted {
		end = reporter.Completed
	}
	if test.Status == end && slices.Equal(have, delivered) {
		return nil
	}
	c.Differ++
	if len(c.Faults) < maxFaults {
		c.Faults = append(c.Faults, fmt.Sprintf("agent %s, test %s: %s on disk, %s on the server; %d lines, %d lost, %d extra",
			name, j.TestID, j.State, test.Status, len(have), lost, extra))
	}
	return nil
}

// difference returns the number of lines that only have has, and that only delivered
// has. Equal lines count as often as they occur.
func difference(have, delivered []string) (lost, extra int64) {
	count := map[string]int64{}
	for _, line := range have {
		count[line]++
	}
	for _, line := range delivered {
		count[line]--
	}
	for _, n := range count {
		lost += max(n, 0)
		extra += max(-n, 0)
	}
	return lost, extra
}

// readLog returns the lines of the log in a job's directory, in the form in which
// they are sent to a server.
func readLog(ctx context.Context, dir string) (lines []string, err error) {
	err = agent.StoredJob{Dir: dir}.ReadLog(ctx, func(line string) error {
		lines = append(lines, logstream.StripANSI(line))
		return nil
	})
	return lines, err
}
