package gpusets

import (
	"errors"
	"fmt"
	"regexp"
)

// MaxPerJob is the most GPUs that Config.PerJob may name.
const MaxPerJob = 64

// maxSets bounds Config.Sets, and each of the sets.
const maxSets = 256

// A Config says which sets there are. Its zero value has none: each job gets all GPUs.
type Config struct {
	Sets   [][]string // devices by UUID, or GPUs by index as nvidia-smi has it
	PerJob int        // devices of a job, chosen by the Allocator; 0 for none
}

// Enabled reports whether there are sets.
func (c Config) Enabled() bool { return len(c.Sets) > 0 || c.PerJob > 0 }

// Validate returns all that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Sets) > 0 && c.PerJob != 0 {
		fault("either list sets of GPUs or say how many a job gets, not both")
	}
	if c.PerJob < 0 || c.PerJob > MaxPerJob {
		fault("a job gets %d GPUs, not from 1 to %d", c.PerJob, MaxPerJob)
	}
	if len(c.Sets) > maxSets {
		fault("there are %d sets, more than %d", len(c.Sets), maxSets)
	}
	seen := map[string]int{}
	for i, set := range c.Sets {
		if len(set) == 0 || len(set) > maxSets {
			fault("set %d has %d GPUs, not from 1 to %d", i+1, len(set), maxSets)
		}
		for _, name := range set {
			if err := CheckName(name); err != nil {
				errs = append(errs, fmt.Errorf("set %d: %w", i+1, err))
			}
			if before, twice := seen[name]; twice {
				fault("%s is in set %d and in set %d", name, before, i+1)
			}
			seen[name] = i + 1
		}
	}
	return errors.Join(errs...)
}

var namePattern = regexp.MustCompile(`^(\d{1,3}|(GPU|MIG)-[A-Za-z0-9/-]{1,128})$`)

// CheckName returns what is wrong with the name of a device in Config.Sets.
func CheckName(name string) error {
	if !namePattern.MatchString(name) {
		return fmt.Errorf("%.80q is neither a UUID nor an index of a GPU; nvidia-smi -L lists them", name)
	}
	return nil
}
