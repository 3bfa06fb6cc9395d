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

// A Check is what came of holding the jobs of a fleet against its server.
type Check struct {
	Jobs   int   `json:"jobs"`   // that stand for a test of the server's
	Lines  int64 `json:"lines"`  // of their logs, as they are on disk
	Lost   int64 `json:"lost"`   // of these, how many the server lacks
	Extra  int64 `json:"extra"`  // lines that the server has and the disk has not, such as doubles
	Differ int   `json:"differ"` // jobs whose end or whose lines are other on the server, or in another order

	// Faults has a sentence for each of the first jobs that differ.
	Faults []string `json:"faults,omitempty"`
}

// maxFaults bounds Check.Faults.
const maxFaults = 10

// OK reports whether the server has every job's end and every line of its log,
// once and in order.
func (c Check) OK() bool { return c.Lost == 0 && c.Extra == 0 && c.Differ == 0 }

// Check holds the jobs of all agents against the server: how each ended, and its
// log line by line. It is for jobs that have ended and are delivered, as after
// Run. An error means that the server could not be asked or a log not be read.
func (f *Fleet) Check(ctx context.Context) (Check, error) {
	ask, ok := f.cfg.Server.(reporter.Inquirer)
	if !ok {
		return Check{}, errors.New("fleet: the server cannot be asked what it holds")
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

// add holds one job against the server.
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
	var there []string
	if len(rows) > 0 {
		there = strings.Split(strings.Join(rows, "\n"), "\n")
	}
	c.Jobs++
	c.Lines += int64(len(have))
	lost, extra := difference(have, there)
	c.Lost += lost
	c.Extra += extra
	end := reporter.Failed
	if j.State == agent.StateCompleted {
		end = reporter.Completed
	}
	if test.Status == end && slices.Equal(have, there) {
		return nil
	}
	c.Differ++
	if len(c.Faults) < maxFaults {
		c.Faults = append(c.Faults, fmt.Sprintf("agent %s, test %s: %s here and %s there; of %d lines %d are lost, %d are extra",
			name, j.TestID, j.State, test.Status, len(have), lost, extra))
	}
	return nil
}

// difference returns how many lines of have are not among there, and the other
// way round. Lines that are alike count as often as they occur.
func difference(have, there []string) (lost, extra int64) {
	count := map[string]int64{}
	for _, line := range have {
		count[line]++
	}
	for _, line := range there {
		count[line]--
	}
	for _, n := range count {
		lost += max(n, 0)
		extra += max(-n, 0)
	}
	return lost, extra
}

// readLog returns the lines of the log in a job's directory, as a server is sent
// them.
func readLog(ctx context.Context, dir string) (lines []string, err error) {
	err = agent.StoredJob{Dir: dir}.ReadLog(ctx, func(line string) error {
		lines = append(lines, logstream.StripANSI(line))
		return nil
	})
	return lines, err
}
