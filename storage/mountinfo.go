package storage

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// A mountPoint is a line of /proc/self/mountinfo, of which this package needs
// two fields (proc_pid_mountinfo(5)). A library for it would be linked by every
// embedder of the agent.
type mountPoint struct {
	path string
	kind string // of the file system
}

// mountPoints returns what is mounted, and nothing on systems without /proc.
func mountPoints() ([]mountPoint, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseMounts(string(text)), nil
}

// parseMounts reads lines of the form
//
//	36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw
//
// and passes over what is of another.
func parseMounts(text string) []mountPoint {
	var mounts []mountPoint
	for line := range strings.Lines(text) {
		before, after, ok := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if ok && len(left) >= 5 && len(right) >= 1 {
			mounts = append(mounts, mountPoint{path: unescapeMount(left[4]), kind: right[0]})
		}
	}
	return mounts
}

// unescapeMount undoes the octal escapes of blanks.
func unescapeMount(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// holds reports whether path is at the mount point or below it.
func (m mountPoint) holds(path string) bool {
	return m.path == "/" || path == m.path || strings.HasPrefix(path, m.path+"/")
}
