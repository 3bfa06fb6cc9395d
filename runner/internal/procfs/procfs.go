// Package procfs finds, signals and kills processes by way of /proc (proc(5)). It
// needs Linux: elsewhere it finds none.
package procfs

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// An ID names a process for good: a PID is given out again, a PID and the time
// it was started at are not, until the next boot.
type ID struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot, field 22 of /proc/PID/stat
}

// A Process is one line of /proc/PID/stat.
type Process struct {
	ID
	Zombie                 bool
	Parent, Group, Session int
}

// parseStat reads the text of /proc/PID/stat. The second field is the
// program's name in parentheses and may itself hold blanks and parentheses.
func parseStat(text []byte) (Process, bool) {
	open, shut := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || shut < open {
		return Process{}, false
	}
	fields := strings.Fields(string(text[shut+1:]))
	if len(fields) < 20 || len(fields[0]) != 1 {
		return Process{}, false
	}
	var p Process
	var errs [5]error
	p.PID, errs[0] = strconv.Atoi(strings.TrimSpace(string(text[:open])))
	p.Parent, errs[1] = strconv.Atoi(fields[1])
	p.Group, errs[2] = strconv.Atoi(fields[2])
	p.Session, errs[3] = strconv.Atoi(fields[3])
	p.Start, errs[4] = strconv.ParseUint(fields[19], 10, 64)
	p.Zombie = fields[0] == "Z" || fields[0] == "X"
	return p, errors.Join(errs[:]...) == nil && p.PID > 0
}

// Lookup returns the process with a PID.
func Lookup(pid int) (Process, bool) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return Process{}, false
	}
	return parseStat(text)
}

// Args returns the process's command line, and nil if that can't be read.
func (p Process) Args() []string {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(p.PID) + "/cmdline")
	if err != nil || len(text) == 0 {
		return nil // it ended, or has none
	}
	return strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
}

// Alive reports whether the process itself, and not a later one by its PID, runs.
func (id ID) Alive() bool {
	if id.PID <= 0 {
		return false
	}
	p, ok := Lookup(id.PID)
	return ok && !p.Zombie && p.Start == id.Start
}

// All returns all processes that run.
func All() []Process {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil
	}
	var all []Process
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		// A process that ended meanwhile has no such file any more.
		if p, ok := Lookup(pid); ok && !p.Zombie {
			all = append(all, p)
		}
	}
	return all
}

// Descendants returns those of all that come from root, however many
// generations down, without root itself.
func Descendants(all []Process, root int) []Process {
	children := make(map[int][]Process)
	for _, p := range all {
		children[p.Parent] = append(children[p.Parent], p)
	}
	var found []Process
	seen := map[int]bool{root: true}
	for next := []int{root}; len(next) > 0; next = next[1:] {
		for _, p := range children[next[0]] {
			// The table isn't read at one instant, so it may hold a circle.
			if !seen[p.PID] {
				seen[p.PID] = true
				found = append(found, p)
				next = append(next, p.PID)
			}
		}
	}
	return found
}

// Signal sends sig to each of ps.
func Signal(ps []Process, sig unix.Signal) {
	for _, p := range ps {
		if p.Alive() {
			// It may have ended just now, which is all that is wanted.
			_ = unix.Kill(p.PID, sig)
		}
	}
}

// Kill sends SIGKILL to what list returns until it returns nothing, and reports
// whether that happened before the limit. A process in an uninterruptible
// call to a driver can't be killed.
func Kill(list func() []Process, limit time.Duration) bool {
	for end := time.Now().Add(limit); ; {
		ps := list()
		if len(ps) == 0 {
			return true
		}
		if time.Now().After(end) {
			return false
		}
		Signal(ps, unix.SIGKILL)
		time.Sleep(killPause)
	}
}

// killPause is the time between two looks at what is being killed.
const killPause = 5 * time.Millisecond
