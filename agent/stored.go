package agent

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
)

// A StoredJob is a job as it is on disk.
type StoredJob struct {
	CommandID string
	TestID    string // empty if there is none, or it could not be read
	State     State  // empty if it could not be read
	Dir       string
}

// StoredJobs returns the jobs in dir, which is a Config.Dir, in the order of their
// ids. No agent need run there, and one may. The error joins those of jobs whose state
// could not be read; no jobs are no error.
func StoredJobs(dir string) ([]StoredJob, error) {
	dir = filepath.Join(dir, jobsDirName)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var (
		all  []StoredJob
		errs []error
	)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || !e.IsDir() {
			continue
		}
		j := StoredJob{CommandID: e.Name(), Dir: filepath.Join(dir, e.Name())}
		j.TestID, j.State, err = jobs.Peek(j.Dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // removed meanwhile
			errs = append(errs, err)
		}
		all = append(all, j)
	}
	return all, errors.Join(errs...)
}

// ReadLog calls emit with each line that the job's log has now, and returns emit's
// error. A state of a progress bar that the next one replaced is not a line.
func (j StoredJob) ReadLog(ctx context.Context, emit func(line string) error) error {
	return jobs.ReadLog(ctx, j.Dir, emit)
}
