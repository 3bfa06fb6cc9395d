package supervisor

import (
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
)

// forwarded are the signals that are meant for the benchmark. The others are
// the kernel's, or can't be caught.
var forwarded = []os.Signal{
	unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGCONT, unix.SIGWINCH,
}

// signals are those that this process gets. They are caught and not ignored,
// because the child would inherit that.
type signals struct {
	received chan os.Signal
	forward  bool
	asked    chan unix.Signal // the first that asked the child to end, once it was forwarded
}

// catch catches signals for the rest of the process's life. Those that come
// before the child is started wait for it.
func catch(forward bool) *signals {
	s := &signals{received: make(chan os.Signal, 16), forward: forward, asked: make(chan unix.Signal, 1)}
	if forward {
		signal.Notify(s.received, forwarded...)
	} else {
		signal.Notify(s.received, unix.SIGHUP, unix.SIGINT, unix.SIGTERM)
	}
	return s
}

// forwardTo passes signals on to the process group pid until stop is called.
func (s *signals) forwardTo(pid int) (stop func()) {
	if !s.forward {
		return func() {}
	}
	var passing sync.WaitGroup
	done := make(chan struct{})
	passing.Go(func() {
		for {
			select {
			case sig := <-s.received:
				// It may have ended just now.
				_ = unix.Kill(-pid, sig.(unix.Signal))
				if sig == unix.SIGTERM || sig == unix.SIGINT {
					select {
					case s.asked <- sig.(unix.Signal):
					default:
					}
				}
			case <-done:
				return
			}
		}
	})
	return func() {
		close(done)
		passing.Wait()
	}
}
