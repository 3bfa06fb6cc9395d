//go:build unix

package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Open files that a fleet needs: one lock for each agent, and some for all.
const (
	filesPerAgent = 1
	filesBeside   = 2000 // requests under way, logs
)

// enoughFiles returns an error if this process may not open as many files as a
// fleet of that size does. The Go runtime has raised the soft limit to the hard
// one.
func enoughFiles(agents int) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return nil // it may well do
	}
	need := uint64(agents*filesPerAgent + filesBeside)
	if agents > 1000 && limit.Max < need {
		return fmt.Errorf("%d agents need %d open files, and this process may have %d\ntry: ulimit -Hn %d, as root, or --count %d",
			agents, need, limit.Max, need, max(1, int(limit.Max)-filesBeside))
	}
	return nil
}
