package procfs

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// WithEnv returns the processes that were started with entry, NAME=value, in their
// environment, which those that they start inherit. sure is false if processes came and
// went during the look, of which one may have it: one that forks and ends again and
// again is seen by no single look. Processes of other users whose environment this one
// may not read are left out.
func WithEnv(entry string) (found []Process, sure bool) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, false
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, false
	}
	sure = true
	for range execLooks {
		var empty []string
		for _, name := range names {
			if _, err := strconv.Atoi(name); err != nil {
				continue
			}
			p, state := withEnv(name, entry)
			switch state {
			case envHas:
				found = append(found, p)
			case envGone:
				sure = false
			case envEmpty:
				empty = append(empty, name)
			}
		}
		if names = empty; len(names) == 0 {
			break
		}
		time.Sleep(execPause)
	}
	return found, sure
}

// The environment of a process is empty for a moment while it begins another program,
// so it is looked at several times.
const (
	execLooks = 3
	execPause = time.Millisecond
)

// What a look at a process found.
const (
	envHasNot = iota
	envHas
	envGone  // it has ended
	envEmpty // it has no environment, or not yet
)

// withEnv looks whether the process with that PID was started with entry.
func withEnv(pid, entry string) (p Process, state int) {
	text, err := os.ReadFile(filepath.Join("/proc", pid, "environ"))
	if errors.Is(err, unix.ESRCH) {
		// Of zombies and threads of the kernel, which have no environment, this is
		// there all the same.
		text, err = os.ReadFile(filepath.Join("/proc", pid, "stat"))
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ESRCH):
		return p, envGone
	case err == nil && len(text) == 0:
		return p, envEmpty
	case err != nil || !hasEntry(text, entry):
		return p, envHasNot
	}
	text, err = os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err != nil {
		return p, envGone
	}
	p, ok := parseStat(text)
	if !ok || p.Zombie {
		return p, envHasNot
	}
	return p, envHas
}

// Forks returns how many processes and threads were started since the machine was,
// or -1 if that can't be read.
func Forks() int64 {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return -1
	}
	return parseForks(string(text))
}

// parseForks returns the count in the text of /proc/stat (proc(5)), or -1.
func parseForks(text string) int64 {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, "processes "); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			if err != nil || n < 0 {
				return -1
			}
			return n
		}
	}
	return -1
}

// hasEntry reports whether the text of /proc/PID/environ (proc(5)) holds an entry.
func hasEntry(text []byte, entry string) bool {
	for len(text) > 0 {
		var each []byte
		each, text, _ = bytes.Cut(text, []byte{0})
		if string(each) == entry {
			return true
		}
	}
	return false
}

// HasEnv reports whether the process with that PID was started with entry, such as
// NAME=value. Of other users' processes only root can tell.
func HasEnv(pid int, entry string) bool {
	_, state := withEnv(strconv.Itoa(pid), entry)
	return state == envHas
}
