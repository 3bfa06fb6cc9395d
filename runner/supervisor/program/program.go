// Package program finds the small programs that an agent needs as files of their
// own. A [Tool] names one of them; the [Supervisor] is a static program that runs in
// any container, whatever its image holds.
//
// An agent is usually linked dynamically, so it can't be that program itself. A
// [Finder] takes the first of these that works:
//
//  1. the file that [Source].Path names; if it is named nothing else is tried
//  2. what the running program holds: released ones are built with the tag
//     kitt_supervise and unpack it into Source.Dir
//  3. the running program itself, if it is static and Source.Self says how
//  4. the file of the tool's name next to the running program
//  5. one that the go command builds into Source.Dir
//
// That a file works means that it is static, made for this machine, and does
// what it is asked when it is run. On a file system that is mounted noexec the
// last can't be seen; a container may run it all the same.
//
// The [SocketProxy] runs outside of containers. For it the running program comes last,
// and may be linked dynamically.
package program

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
)

// A Source says where to look. Its zero value leaves out what can't be known
// without being told: the running program itself.
type Source struct {
	// Tool is the program that is looked for. Defaults to Supervisor.
	Tool Tool

	// Path is the program's file. It is used as it is, or an error. Empty means
	// that the others are tried.
	Path string

	// Self are the arguments with which the running program does what the tool does
	// with those that follow. Nil means that it can't.
	Self []string

	// Dir is where a program is unpacked or built; it is made. Empty means
	// kitt-agent in the user's directory for caches.
	Dir string
}

// A Program is a file and the arguments that it takes before the tool's own.
type Program struct {
	Path string   // absolute, without symbolic links
	Args []string // may be empty
	From string   // which of the sources it is, for a person
}

// A Finder finds the program once. Its methods are safe for concurrent use.
type Finder struct {
	source Source
	turn   chan struct{} // held by the one that looks
	last   atomic.Pointer[answer]
}

// An answer is what a look found, or why it found nothing.
type answer struct {
	program Program
	err     error
	at      time.Time
}

// How long an answer without a program stands: one that says what is wrong with each of
// the sources, and one that blames the machine.
const (
	retryAfter     = time.Minute
	retryTransient = 2 * time.Second
)

// NewFinder returns a Finder that has not looked yet.
func NewFinder(source Source) *Finder {
	return &Finder{source: source, turn: make(chan struct{}, 1)}
}

// Find returns the program. The error matches [runner.ErrUnavailable] and says
// why each of the sources doesn't work. It matches [runner.ErrNotReady] instead if one of
// them could not be looked at, as with too many open files: then a job waits.
func (f *Finder) Find(ctx context.Context) (Program, error) {
	if a := f.last.Load(); a.stands() {
		return a.program, a.err
	}
	select {
	case f.turn <- struct{}{}:
		defer func() { <-f.turn }()
	case <-ctx.Done():
		return Program{}, context.Cause(ctx)
	}
	if a := f.last.Load(); a.stands() {
		return a.program, a.err
	}
	program, err := f.source.find(ctx)
	if ctx.Err() != nil {
		return Program{}, context.Cause(ctx)
	}
	f.last.Store(&answer{program, err, time.Now()})
	return program, err
}

// Known returns why there is no program, if a look within the last minute has
// shown that. It looks for nothing itself; after that minute Find looks again.
func (f *Finder) Known() error {
	if a := f.last.Load(); a != nil && errors.Is(a.err, runner.ErrUnavailable) && a.stands() {
		return a.err
	}
	return nil
}

// stands reports whether the answer needs no other look.
func (a *answer) stands() bool {
	if a == nil {
		return false
	}
	switch {
	case errors.Is(a.err, runner.ErrNotReady):
		return time.Since(a.at) < retryTransient
	case a.err != nil:
		return time.Since(a.at) < retryAfter
	}
	_, err := os.Stat(a.program.Path)
	return err == nil
}

// candidate is one source: get returns a program that may work.
type candidate struct {
	from string
	get  func(ctx context.Context) (Program, error)
}

func (s Source) find(ctx context.Context) (Program, error) {
	all := []candidate{
		{"held by this program", s.unpacked},
		{"this program itself", s.self},
		{"next to this program", s.beside},
		{"built by go", s.built},
	}
	if s.Tool.describe().outside {
		// Any form of this program would do, and the tool needs less memory.
		all = []candidate{all[0], all[2], all[3], all[1]}
	}
	if s.Path != "" {
		all = []candidate{{"configured", func(context.Context) (Program, error) { return Program{Path: s.Path}, nil }}}
	}
	var errs []error
	for _, c := range all {
		p, err := c.get(ctx)
		if err == nil {
			p.From = c.from
			p.Path, err = real(p.Path)
		}
		if err == nil {
			err = s.Tool.check(ctx, p)
		}
		if err == nil {
			return p, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", c.from, err))
	}
	if i := slices.IndexFunc(errs, unseen); i >= 0 {
		return Program{}, &runner.Error{
			Class: runner.ClassUnavailable,
			Text:  fmt.Sprintf("containers can't be used yet, because %s can't be looked for: %v", s.Tool, errs[i]),
			Err:   errors.Join(errs[i], runner.ErrNotReady),
		}
	}
	return Program{}, &runner.Error{
		Class: runner.ClassUnavailable,
		Text:  fmt.Sprintf("containers can't be used, because there is no %s %s: %s", s.Tool, s.Tool.describe().purpose, oneLine(errs)),
		Fix:   fmt.Sprintf("install a released kitt-agent, or put a static %s next to it", s.Tool),
		Err:   errors.Join(append(errs, runner.ErrUnavailable)...),
	}
}

// unseen reports whether err says nothing about a source: the machine kept it from being
// looked at, or it did not answer in time. That a directory is read-only rarely passes.
func unseen(err error) bool {
	return base.Transient(err) && !errors.Is(err, syscall.EROFS) || errors.Is(err, context.DeadlineExceeded)
}

func oneLine(errs []error) string {
	var text string
	for i, err := range errs {
		if i > 0 {
			text += "; "
		}
		text += err.Error()
	}
	return text
}

// real returns a path as a container engine needs it.
func real(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(path)
}

// dir returns where programs are unpacked and built.
func (s Source) dir() (string, error) {
	dir := s.Dir
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(cache, "kitt-agent")
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// self returns the running program, if it says that it can do what the tool does.
func (s Source) self(context.Context) (Program, error) {
	if s.Self == nil {
		return Program{}, fmt.Errorf("it can't be %s", s.Tool)
	}
	exe, err := os.Executable()
	return Program{Path: exe, Args: slices.Clone(s.Self)}, err
}

// beside returns the file of the tool's name next to the running program.
func (s Source) beside(context.Context) (Program, error) {
	exe, err := os.Executable()
	if err != nil {
		return Program{}, err
	}
	path := filepath.Join(filepath.Dir(exe), s.Tool.String())
	_, err = os.Stat(path)
	return Program{Path: path}, err
}
