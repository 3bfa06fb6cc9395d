package process

import "github.com/kirizan/kitt-agent/runner/internal/cgroup"

// makeGroup makes a control group for the run in dir. It is empty where this program
// may not: the run's processes are then found by their environment alone.
func makeGroup(dir string) cgroup.Group {
	g, err := cgroup.Create(groupName(dir))
	if err != nil {
		return ""
	}
	return g
}

// groupOf returns the group of the run in dir. Path is what spec.json says of it, which
// may be anything; if it is empty the group is looked for where this program would make
// it.
func groupOf(dir, path string) cgroup.Group {
	var g cgroup.Group
	var err error
	if path == "" {
		g, err = cgroup.Find(groupName(dir))
	} else {
		g, err = cgroup.Open(path, groupName(dir))
	}
	if err != nil {
		return "" // it was removed with its last process, or never made
	}
	return g
}
