//go:build unix

// Package pidfile keeps the file that names the running agent's process.
//
// The file holds the process id and nothing else, as the Python agent's does,
// so that scripts that read it go on working. What counts is a lock on it
// (flock): the kernel drops it when the process ends, however it ends, so a
// file that a crash left behind is no obstacle and never mistaken for a running
// agent. [Acquire] is for the agent, [Find] for who wants to know.
package pidfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Who looks at a file holds its lock for a moment; Acquire waits that out.
const (
	patience = 500 * time.Millisecond
	pause    = 10 * time.Millisecond
)

// maxContent is how much of a file is read.
const maxContent = 64

// An Owner is the process of a running agent.
type Owner struct {
	PID   int       // 0 if the file doesn't tell
	Since time.Time // when it took the file
}

// A HeldError says that another agent runs.
type HeldError struct {
	Path  string
	Owner Owner
}

// Error returns one sentence that names the process.
func (e *HeldError) Error() string {
	if e.Owner.PID == 0 {
		return fmt.Sprintf("another agent is running and holds %s", e.Path)
	}
	return fmt.Sprintf("another agent is running: process %d, since %s (%s)",
		e.Owner.PID, e.Owner.Since.Format("2006-01-02 15:04:05"), e.Path)
}

// A File is a PID file that this process holds.
type File struct {
	f *os.File
}

// Acquire takes the file at path for this process, making it and its directory
// if need be. The error is a [*HeldError] if another agent runs.
func Acquire(path string) (*File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("pid file: %w", err)
	}
	if owner, ok := foreign(path); ok {
		return nil, &HeldError{Path: path, Owner: owner}
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(pause) {
		file, err := tryAcquire(path)
		if file != nil || err != nil {
			return file, err
		}
		if time.Now().After(deadline) {
			owner, _ := read(path)
			return nil, &HeldError{Path: path, Owner: owner}
		}
	}
}

// tryAcquire returns nothing at all if the file is locked, or was removed while
// it was being locked.
func tryAcquire(path string) (*File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("pid file: %w", err)
	}
	err = lock(f, syscall.LOCK_EX)
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return nil, f.Close()
	case err == nil:
		if !isAt(f, path) {
			return nil, f.Close()
		}
		err = write(f)
	}
	if err != nil {
		return nil, fmt.Errorf("pid file: %w", errors.Join(err, f.Close()))
	}
	return &File{f: f}, nil
}

func write(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// isAt reports whether path names f.
func isAt(f *os.File, path string) bool {
	held, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(path)
	return err == nil && os.SameFile(held, named)
}

// Release removes the file and lets go of it. It may be called more than once.
func (p *File) Release() error {
	if p.f == nil {
		return nil
	}
	var err error
	if isAt(p.f, p.f.Name()) { // while the lock is held, so it is nobody else's
		err = os.Remove(p.f.Name())
	}
	err = errors.Join(err, p.f.Close())
	p.f = nil
	return err
}

// Find returns the process of the agent that holds the file at path, and
// whether there is one. A Python agent, which takes no lock, is found too.
func Find(path string) (owner Owner, running bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Owner{}, false, nil
	}
	if err != nil {
		return Owner{}, false, fmt.Errorf("pid file: %w", err)
	}
	defer f.Close()
	err = lock(f, syscall.LOCK_SH)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		owner, err = read(path)
		return owner, true, err
	}
	if err != nil {
		return Owner{}, false, fmt.Errorf("pid file: %w", err)
	}
	owner, running = foreign(path)
	return owner, running, nil
}

// foreign returns the Python agent that path names, if one runs.
func foreign(path string) (Owner, bool) {
	owner, err := read(path)
	if err != nil || owner.PID <= 0 || owner.PID == os.Getpid() {
		return Owner{}, false
	}
	// The number alone says little: it may long be another program's.
	words, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", owner.PID))
	if err != nil || !isPythonAgent(strings.Split(string(words), "\x00")) {
		return Owner{}, false
	}
	return owner, true
}

// isPythonAgent reports whether a command line is that of `kitt-agent start` in
// Python: an interpreter and a script.
func isPythonAgent(words []string) bool {
	if len(words) < 2 || !strings.Contains(filepath.Base(words[0]), "python") {
		return false
	}
	for _, word := range words[1:] {
		if base := filepath.Base(word); base == "kitt-agent" || base == "kitt_agent" {
			return true
		}
	}
	return false
}

// read returns what the file says, which need not be true.
func read(path string) (Owner, error) {
	f, err := os.Open(path)
	if err != nil {
		return Owner{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Owner{}, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxContent))
	if err != nil {
		return Owner{}, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid < 0 {
		pid = 0
	}
	return Owner{PID: pid, Since: info.ModTime()}, nil
}

// lock locks f without waiting.
func lock(f *os.File, how int) error {
	for {
		err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
