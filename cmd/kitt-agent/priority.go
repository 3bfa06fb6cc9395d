package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// agentNice is added to the agent's nice value (sched(7)): a benchmark that wants a
// core gets nine times as much of it as the agent does.
const agentNice = 10

// A starter starts processes at the priority that this program was started with,
// also after lowerPriority. Raising a lowered priority again would take a privilege, so
// the starter keeps one thread back: a process inherits the nice value of the thread
// that forks it.
type starter struct {
	starts chan func()
	thread int
	ended  sync.WaitGroup
}

// newStarter returns a starter. close ends it.
func newStarter() *starter {
	s := &starter{starts: make(chan func())}
	thread := make(chan int)
	s.ended.Go(func() {
		// The thread is never unlocked, so no other goroutine runs on it, and the
		// runtime makes no new threads from it.
		runtime.LockOSThread()
		thread <- unix.Gettid()
		for start := range s.starts {
			start()
		}
	})
	s.thread = <-thread
	return s
}

// start is cmd.Start at the starter's priority.
func (s *starter) start(cmd *exec.Cmd) error {
	done := make(chan error)
	s.starts <- func() { done <- cmd.Start() }
	return <-done
}

// close ends the starter. No start may be under way.
func (s *starter) close() {
	close(s.starts)
	s.ended.Wait()
}

// lowerPriority lowers the priority of all threads of this program but the starter's.
// Threads that the runtime makes later inherit it.
func (s *starter) lowerPriority() error {
	for lowered := map[int]bool{s.thread: true}; ; {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("list the threads: %w", err)
		}
		before := len(lowered)
		for _, t := range threads {
			thread, err := strconv.Atoi(t.Name())
			if err != nil || lowered[thread] {
				continue
			}
			if err := addNice(thread, agentNice); err != nil {
				return err
			}
			lowered[thread] = true
		}
		if len(lowered) == before {
			return lowerAutogroup()
		}
	}
}

// addNice adds to the nice value of a thread, up to 19.
func addNice(thread, n int) error {
	// The system call returns 20 less the nice value (getpriority(2)).
	raw, err := unix.Getpriority(unix.PRIO_PROCESS, thread)
	if err == nil {
		err = unix.Setpriority(unix.PRIO_PROCESS, thread, min(20-raw+n, 19))
	}
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("set the nice value of thread %d: %w", thread, err)
	}
	return nil
}

// lowerAutogroup lowers the priority of this program's session, where the kernel
// weighs sessions against each other before it looks at nice values (sched(7), "The
// autogroup feature"). A local benchmark has a session of its own. A session that
// belongs to a shell stays as it is.
func lowerAutogroup() error {
	if session, err := unix.Getsid(0); err != nil || session != os.Getpid() {
		return err
	}
	err := os.WriteFile("/proc/self/autogroup", []byte(strconv.Itoa(agentNice)), 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil // a kernel without the feature
	}
	return err
}
