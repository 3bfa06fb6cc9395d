package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/storage/internal/iofault"
)

// A commandRunner runs a program and returns what it printed.
type commandRunner func(ctx context.Context, name string, args ...string) ([]byte, error)

// maxOutput is how much is kept of what mount prints.
const maxOutput = 4 << 10

// runCommand runs a program without input, in a process group of its own that
// is killed when ctx is done.
func runCommand(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var out bytes.Buffer
	cmd.Stdout = &boundedWriter{w: &out, left: maxOutput}
	cmd.Stderr = cmd.Stdout
	cmd.WaitDelay = time.Second
	ownGroup(cmd)
	err := cmd.Run()
	return out.Bytes(), err
}

// A boundedWriter passes on what fits and swallows the rest.
type boundedWriter struct {
	w    io.Writer
	left int
}

func (b *boundedWriter) Write(p []byte) (int, error) {
	n := min(len(p), b.left)
	b.left -= n
	if _, err := b.w.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}

// A mounter mounts shares.
type mounter struct {
	watchdog *watchdog
	command  commandRunner
	root     bool                   // whether commands run as root already
	own      string                 // mount point of the machine's own configuration; may be empty
	parents  []string               // directories below which any share may be mounted
	check    func(dir string) error // refuses a mount point other than own; nil refuses none
	mounting chan struct{}          // holds a value during a mount command, so that there is one at a time
}

func newMounter(w *watchdog, own string, check func(dir string) error) *mounter {
	return &mounter{watchdog: w, command: runCommand, root: os.Geteuid() == 0, own: own, parents: defaultMountParents(), check: check,
		mounting: make(chan struct{}, 1)}
}

// ensureMounted makes sure that the share is where it should be: something is
// there, or a file system is mounted there, or it can be mounted through
// /etc/fstab, with the owner's options, or from the share's source, with
// mountOptions. What may be mounted where is in mountpoint.go.
func (m *mounter) ensureMounted(ctx context.Context, st state, note func(string)) error {
	// Two jobs that mount at once would mount twice.
	select {
	case m.mounting <- struct{}{}:
		defer func() { <-m.mounting }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	dir := st.ShareMount
	if err := m.checkPlace(ctx, dir); err != nil {
		return err
	}
	present, err := m.shareThere(ctx, dir)
	missing := errors.Is(err, os.ErrNotExist)
	if present && st.ShareSource != "" {
		return m.noteUnmounted(ctx, st, note)
	}
	if present || err != nil && !missing {
		return err
	}
	if !m.mayMountAt(dir) {
		return mountRefused(dir, dir)
	}
	if missing && st.ShareSource != "" && slices.Contains(m.parents, filepath.Dir(dir)) {
		if err := m.makeMountPoint(ctx, dir, note); err != nil {
			return err
		}
		present, err = m.shareThere(ctx, dir)
	}
	if err != nil || present {
		return err
	}
	target, err := m.mountTarget(ctx, dir)
	if err != nil {
		return err
	}
	var tried []string
	commands := [][]string{{"mount", "--target", target}}
	if st.ShareSource != "" {
		commands = append(commands, m.asRoot("mount", "-t", "nfs", "-o", mountOptions, "--", st.ShareSource, target))
	}
	for _, c := range commands {
		line := strings.Join(c, " ")
		note("mounting the share: " + line)
		why, err := m.mountCommand(ctx, dir, c)
		if err != nil {
			return err
		}
		if why == "" {
			if there, err := m.shareThere(ctx, dir); there || err != nil {
				return err
			}
			continue
		}
		note(fmt.Sprintf("could not mount the share: %s: %s", line, why))
		tried = append(tried, line+": "+why)
	}
	return &Error{
		Class: ClassUnmounted,
		Text:  fmt.Sprintf("the share is not mounted at %s (%s)", dir, strings.Join(tried, "; ")),
		Fix:   "add this line to /etc/fstab: " + fstabLine(st.ShareSource, dir),
	}
}

// mountCommand runs one of the commands that mount what belongs at dir, and
// returns why it failed, nothing if it didn't. The error is the end of ctx.
func (m *mounter) mountCommand(ctx context.Context, dir string, line []string) (why string, err error) {
	var out []byte
	err = m.watchdog.run(ctx, "mount "+dir, 1, func(ctx context.Context, timers []*opTimer) error {
		timers[0].Begin(&opMount, &dir)
		defer timers[0].End()
		// Ends before the watchdog would abandon it.
		ctx, cancel := context.WithTimeout(ctx, m.watchdog.timeout*3/4)
		defer cancel()
		printed, err := m.command(ctx, line[0], line[1:]...)
		if ctx.Err() != nil {
			err = fmt.Errorf("took longer than %v", m.watchdog.timeout*3/4)
		}
		out = printed
		return err
	})
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err == nil {
		return "", nil
	}
	why = err.Error()
	if iofault.ClassOf(err) != ClassHung { // then out may still be written to
		if text := strings.Join(strings.Fields(string(out)), " "); text != "" {
			why = text
		}
	}
	return why, nil
}

// fstabLine returns the line that lets any user mount the share (fstab(5)).
func fstabLine(source, dir string) string {
	if source == "" {
		source = "SERVER:/PATH"
	}
	escape := strings.NewReplacer(" ", `\040`, "\t", `\011`, `\`, `\134`)
	return fmt.Sprintf("%s  %s  nfs  %s,nofail,user  0  0", escape.Replace(source), escape.Replace(dir), mountOptions)
}

// shareThere reports whether a share is at dir: content, or a mount.
func (m *mounter) shareThere(ctx context.Context, dir string) (bool, error) {
	there := false
	err := m.watchdog.probe(ctx, dir, &opMount, dir, func() error {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return fault.New(ClassSettings, "set model_share_mount to a directory", "the share's mount point %q is not a directory", dir)
		}
		f, err := os.Open(dir)
		if err != nil {
			return err
		}
		names, err := f.Readdirnames(1)
		if errors.Is(err, io.EOF) {
			err = nil
		}
		there = len(names) > 0
		return errors.Join(err, f.Close())
	})
	if err == nil && there {
		return true, nil
	}
	if errors.Is(err, os.ErrNotExist) {
		return false, &Error{Class: ClassUnmounted, Text: fmt.Sprintf("the share's mount point %s does not exist", dir),
			Fix: "sudo mkdir -p " + dir, Err: err}
	}
	if err != nil {
		return false, iofault.Explain("look at the share", dir, err)
	}
	mounted, err := mountPoints()
	if err != nil {
		return false, iofault.Explain("look for the mount at", dir, err)
	}
	for _, m := range mounted {
		// An automounter's trigger is there before what it mounts.
		if m.path == dir && m.kind != "autofs" {
			return true, nil
		}
	}
	return false, nil
}

// mountOf returns the mount point that path is on, by which the watchdog knows its
// file system.
func mountOf(path string) string {
	best := "/"
	mounts, err := mountPoints()
	if err != nil {
		return best
	}
	for _, m := range mounts {
		if m.holds(path) && len(m.path) > len(best) {
			best = m.path
		}
	}
	return best
}
