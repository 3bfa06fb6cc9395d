// Package cgroup holds the processes of one run in a control group of version 2
// (cgroups(7)), which no process leaves by forking, by a session of its own or by the
// end of its parent. It needs Linux, and the right to make a group below this
// process's own: that of root, or of a service with Delegate=yes.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Group is a control group by its directory. The zero value holds no process.
type Group string

// Create makes the group with that name below the one of this process, or finds it.
func Create(name string) (Group, error) {
	parent, err := own()
	if err != nil {
		return "", err
	}
	path := filepath.Join(parent, name)
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return Group(path), nil
}

// Find returns the group with that name below the one of this process.
func Find(name string) (Group, error) {
	parent, err := own()
	if err != nil {
		return "", err
	}
	return Open(filepath.Join(parent, name), name)
}

// Open returns the group with that name at path. The path may come from a file that
// others write: anything but a control group of that name is refused.
func Open(path, name string) (Group, error) {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	if ok, err := isGroup(path); err != nil || !ok || filepath.Base(path) != name || !filepath.IsAbs(path) {
		return "", errors.Join(fmt.Errorf("%s is not the control group %s", path, name), err)
	}
	return Group(path), nil
}

// own returns the directory of the group that this process is in.
func own() (string, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	return find(string(mounts), string(groups))
}

// find returns that directory by the texts of /proc/self/mountinfo (proc(5)) and
// /proc/self/cgroup (cgroups(7)).
func find(mounts, groups string) (string, error) {
	path := ""
	for line := range strings.Lines(groups) {
		if p, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			path = p
		}
	}
	if !strings.HasPrefix(path, "/") || strings.HasSuffix(path, " (deleted)") {
		return "", errors.New("this process is in no control group of version 2")
	}
	for line := range strings.Lines(mounts) {
		fields, rest, ok := strings.Cut(line, " - ")
		f := strings.Fields(fields)
		if !ok || !strings.HasPrefix(rest, "cgroup2 ") || len(f) < 5 {
			continue
		}
		rel, err := filepath.Rel(f[3], path)
		if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
			continue // another part of the tree is mounted there
		}
		return filepath.Join(f[4], rel), nil
	}
	return "", errors.New("no control groups of version 2 are mounted")
}

// Join moves this process into the group, with all that it starts from now on.
func (g Group) Join() error { return g.write("cgroup.procs", "0") }

// Add moves the process pid into the group.
func (g Group) Add(pid int) error { return g.write("cgroup.procs", strconv.Itoa(pid)) }

func (g Group) write(file, text string) error {
	// The file is there: opening it must not make one in another directory.
	f, err := os.OpenFile(filepath.Join(string(g), file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// PIDs returns the processes in the group and in those below it, also zombies. A group
// that was removed has none.
func (g Group) PIDs() ([]int, error) {
	if g == "" {
		return nil, nil
	}
	var pids []int
	err := filepath.WalkDir(string(g), func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || e.IsDir() || e.Name() != "cgroup.procs" {
			return err
		}
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			return nil
		}
		for word := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(word); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
		return err
	})
	return pids, err
}

// Kill kills all processes in the group and below, and removes it. The error says that
// some of them live at the limit, or that this can't be told.
func (g Group) Kill(limit time.Duration) error {
	if g == "" {
		return nil
	}
	for end := time.Now().Add(limit); ; {
		if err := g.Remove(); err == nil {
			return nil // the kernel removes no group that holds a process
		}
		pids, err := g.PIDs()
		g.kill(pids)
		if time.Now().After(end) {
			return errors.Join(fmt.Errorf("the control group %s still holds %d processes", g, len(pids)), err)
		}
		time.Sleep(killPause)
	}
}

// killPause is the time between two looks at what is being killed.
const killPause = 5 * time.Millisecond

// kill kills what is in the group now. Before Linux 5.14 that is done one by one while
// the group is frozen, so that none forks meanwhile.
func (g Group) kill(pids []int) {
	if g.write("cgroup.kill", "1") == nil {
		return
	}
	_ = g.write("cgroup.freeze", "1") // before Linux 5.2 there is no such file
	for _, pid := range pids {
		_ = unix.Kill(pid, unix.SIGKILL) // it may have ended just now
	}
	_ = g.write("cgroup.freeze", "0")
}

// Remove removes the group and those below it. It fails if they hold a process.
func (g Group) Remove() error {
	if g == "" {
		return nil
	}
	var dirs []string
	err := filepath.WalkDir(string(g), func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			dirs = append(dirs, path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		if err := unix.Rmdir(dirs[i]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
