package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/client"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
)

// A knownJob is a job that the agent or its files tell of.
type knownJob struct {
	command, test string
	accepted      time.Time
}

// knownJobs returns the jobs of the running agent, if one answers, and of the files
// in cfg.Home, as far as they can be read.
func knownJobs(ctx context.Context, c *client.Client, cfg *config.Config) []knownJob {
	var all []knownJob
	known := map[string]bool{}
	if status, _, err := c.Status(ctx); err == nil {
		for _, jobs := range [][]agent.JobStatus{status.Jobs, status.Recent} {
			for _, j := range jobs {
				known[j.CommandID] = true
				all = append(all, knownJob{j.CommandID, j.TestID, j.AcceptedAt})
			}
		}
	}
	stored, _ := agent.StoredJobs(cfg.Home) // what can't be read is not found
	for _, j := range stored {
		if known[j.CommandID] {
			continue
		}
		job := knownJob{command: j.CommandID, test: j.TestID}
		// The command is written once, when the job is accepted.
		if info, err := os.Stat(filepath.Join(j.Dir, "command.json")); err == nil {
			job.accepted = info.ModTime()
		}
		all = append(all, job)
	}
	return all
}

// errNoJobs says that there is no newest job.
var errNoJobs = errors.New("this agent has had no job yet; kitt-agent status shows its queue")

// pickJob returns the id of the job that word begins the id of, or of the newest one
// if word is empty. A word that fits none is returned as it is.
func pickJob(jobs []knownJob, word string) (string, error) {
	var newest knownJob
	var fitting []string
	for _, j := range jobs {
		switch {
		case word == "":
			if newest.command == "" || j.accepted.After(newest.accepted) {
				newest = j
			}
		case j.command == word || j.test == word:
			return word, nil
		case strings.HasPrefix(j.command, word):
			fitting = append(fitting, j.command)
		case strings.HasPrefix(j.test, word):
			fitting = append(fitting, j.test)
		}
	}
	switch {
	case word == "" && newest.command == "":
		return "", errNoJobs
	case word == "":
		return newest.command, nil
	case len(fitting) > 1:
		const most = 5
		others := ""
		if len(fitting) > most {
			fitting, others = fitting[:most], " and others"
		}
		return "", usageError("kitt-agent logs "+fitting[0], "%s is the beginning of several ids: %s%s", quote(word), printable(strings.Join(fitting, ", ")), others)
	case len(fitting) == 1:
		return fitting[0], nil
	}
	return word, nil
}
