package engine

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/internal/base"
)

const (
	// versionLimit is how long a program may take to print its version.
	versionLimit = 5 * time.Second

	// versionAgain is the time before a program that printed none is asked again.
	versionAgain = 10 * time.Minute

	// maxVersionOutput bounds what is read of it, in bytes, and maxVersion what is told.
	maxVersionOutput = 64 << 10
	maxVersion       = 80
)

// versions remembers the version of each program for as long as the file is the same.
type versions struct {
	mu    sync.Mutex
	known map[string]version // by path; guarded by mu
}

type version struct {
	modified time.Time
	size     int64
	text     string    // empty if it is not known
	asked    time.Time // when that was found out
}

// get returns the version of an engine that was found, empty if it can't be found out.
func (v *versions) get(ctx context.Context, s Spec, found Found) string {
	info, err := os.Stat(found.program)
	if err != nil {
		return ""
	}
	v.mu.Lock()
	known, ok := v.known[found.program]
	v.mu.Unlock()
	if ok && known.modified.Equal(info.ModTime()) && known.size == info.Size() && (known.text != "" || time.Since(known.asked) < versionAgain) {
		return known.text
	}
	known = version{modified: info.ModTime(), size: info.Size(), asked: time.Now()}
	if found.module {
		known.text = moduleVersion(found.program)
	} else {
		known.text = ask(ctx, found.program, s.Version)
	}
	if ctx.Err() != nil {
		return known.text // it may be why there is none
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.known == nil {
		v.known = map[string]version{}
	}
	v.known[found.program] = known
	return known.text
}

// moduleVersion returns the version of a Python package from the directory that pip
// leaves next to it.
func moduleVersion(dir string) string {
	if dir == "" {
		return ""
	}
	infos, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), filepath.Base(dir)+"-*.dist-info")) // the pattern is well formed
	if len(infos) == 0 {
		return ""
	}
	text := strings.TrimPrefix(filepath.Base(infos[len(infos)-1]), filepath.Base(dir)+"-")
	return base.Printable(strings.TrimSuffix(text, ".dist-info"), maxVersion)
}

// ask runs a program that prints its version, and returns an empty text if it doesn't. The
// program gets no secrets, and is killed with what it started if it takes too long.
func ask(ctx context.Context, program string, args []string) string {
	ctx, cancel := context.WithTimeout(ctx, versionLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "LD_LIBRARY_PATH=" + os.Getenv("LD_LIBRARY_PATH"), "LC_ALL=C"}
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = time.Second
	out := &limited{}
	cmd.Stdout, cmd.Stderr = out, out
	if cmd.Run() != nil && ctx.Err() != nil {
		return ""
	}
	return parseVersion(string(out.text))
}

// limited keeps the beginning of what is written to it.
type limited struct{ text []byte }

func (l *limited) Write(p []byte) (int, error) {
	l.text = append(l.text, p[:min(len(p), maxVersionOutput-len(l.text))]...)
	return len(p), nil
}

var versionPattern = regexp.MustCompile(`(?i)version(?: is)?:? +(v?[0-9][^\n]*)`)

// parseVersion returns the version in what a program printed: what follows the word
// version, else its first line. Programs print about GPUs before that.
func parseVersion(text string) string {
	if m := versionPattern.FindStringSubmatch(text); m != nil {
		return base.Printable(strings.TrimSpace(m[1]), maxVersion)
	}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			return base.Printable(line, maxVersion)
		}
	}
	return ""
}
