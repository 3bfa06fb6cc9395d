package procfs

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

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
	for _, name := range names {
		if _, err := strconv.Atoi(name); err != nil {
			continue
		}
		p, has, err := withEnv(name, entry)
		switch {
		case has:
			found = append(found, p)
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ESRCH): // it has ended
			sure = false
		}
	}
	return found, sure
}

// withEnv reports whether the process with that PID was started with entry.
func withEnv(pid, entry string) (p Process, has bool, err error) {
	text, err := os.ReadFile(filepath.Join("/proc", pid, "environ"))
	if errors.Is(err, unix.ESRCH) {
		// Of zombies and threads of the kernel, which have no environment, this is
		// there all the same.
		_, err = os.Stat(filepath.Join("/proc", pid, "stat"))
	}
	if err != nil || !hasEntry(text, entry) {
		return p, false, err
	}
	text, err = os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err != nil {
		return p, false, err
	}
	p, ok := parseStat(text)
	return p, ok && !p.Zombie, nil
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
