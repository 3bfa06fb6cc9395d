package process

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// oomKills returns how many processes the kernel has killed for want of memory
// in this process's cgroup, from where cgroups are mounted by custom. It is 0
// where the count can't be had.
func oomKills() int64 {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return 0
	}
	path := oomFile(string(text))
	if path == "" {
		return 0
	}
	events, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	return parseOOM(string(events))
}

// oomFile returns the file with the count for the text of /proc/PID/cgroup, see
// cgroups(7): the one of version 1's memory controller, else version 2's.
func oomFile(text string) string {
	v2 := ""
	for line := range strings.Lines(text) {
		_, rest, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			continue
		}
		controllers, path, ok := strings.Cut(rest, ":")
		if !ok {
			continue
		}
		for _, c := range strings.Split(controllers, ",") {
			if c == "memory" {
				return filepath.Join("/sys/fs/cgroup/memory", path, "memory.oom_control")
			}
		}
		if controllers == "" {
			v2 = filepath.Join("/sys/fs/cgroup", path, "memory.events")
		}
	}
	return v2
}

// parseOOM returns the count in memory.events or memory.oom_control.
func parseOOM(text string) int64 {
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || name != "oom_kill" {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		if err != nil {
			return 0
		}
		return n
	}
	return 0
}
