package supervisor

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// OOMKills returns how many processes the kernel has killed for want of memory:
// in this process's cgroup, from where cgroups are mounted by custom, or else on
// the whole machine. It is 0 where the count can't be had.
func OOMKills() int64 {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err == nil {
		path := oomFile(string(text))
		// A container without a cgroup namespace reads its path on the machine,
		// and has its own cgroup mounted at the root.
		for _, p := range []string{path, filepath.Join(oomRoot(path), filepath.Base(path))} {
			if events, err := os.ReadFile(p); err == nil {
				return parseOOM(string(events))
			}
		}
	}
	text, err = os.ReadFile("/proc/vmstat")
	if err != nil {
		return 0
	}
	return parseOOM(string(text))
}

const (
	oomRoot1 = "/sys/fs/cgroup/memory" // cgroup version 1
	oomRoot2 = "/sys/fs/cgroup"        // cgroup version 2
)

// oomRoot returns where the cgroups are mounted that oomFile found path in.
func oomRoot(path string) string {
	if strings.HasPrefix(path, oomRoot1+"/") {
		return oomRoot1
	}
	return oomRoot2
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
				return filepath.Join(oomRoot1, path, "memory.oom_control")
			}
		}
		if controllers == "" {
			v2 = filepath.Join(oomRoot2, path, "memory.events")
		}
	}
	return v2
}

// parseOOM returns the count in memory.events, memory.oom_control or
// /proc/vmstat.
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
