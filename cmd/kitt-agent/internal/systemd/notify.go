package systemd

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// statusEvery is how often systemd is told anew what the service does, where its
// watchdog does not want to hear more often.
const statusEvery = 10 * time.Second

// A Notifier tells the systemd that started this process how the service in it
// fares (sd_notify(3)).
type Notifier struct {
	// Ready is closed once the service does its work.
	Ready <-chan struct{}

	// Alive returns nil while the service works. The watchdog is fed for no
	// longer than that, nor while Alive doesn't return, and systemd then ends
	// the process and starts it anew.
	Alive func() error

	// Status says in one line what the service does.
	Status func() string

	// StopWithin is how long the service takes at most to stop.
	StopWithin time.Duration

	// Logger is told when the watchdog is fed no longer.
	Logger *slog.Logger

	send func(state string) (sent bool, err error) // nil for the socket of NOTIFY_SOCKET
	feed time.Duration                             // the watchdog's patience in tests
}

// Run tells systemd how the service fares, from its start to its end, when ctx
// is done; stopping is done from when it is told to stop. It returns at once in
// a process that systemd didn't start, or not as a service of Type=notify.
func (n *Notifier) Run(ctx, stopping context.Context) {
	told := n.tell("STATUS=starting")
	if !told {
		return
	}
	select {
	case <-n.Ready:
	case <-ctx.Done():
		return
	}
	status := n.Status()
	n.tell(daemon.SdNotifyReady + "\nSTATUS=" + status)

	tick := time.NewTicker(n.every())
	defer tick.Stop()
	stop := stopping.Done()
	alive := true
	for {
		select {
		case <-ctx.Done():
			if stop != nil && stopping.Err() != nil { // it stopped at once
				n.tellStopping()
			}
			return
		case <-stop:
			stop = nil
			n.tellStopping()
		case <-tick.C:
		}
		err := n.Alive()
		switch {
		case err == nil:
			n.tell(daemon.SdNotifyWatchdog)
		case alive:
			n.Logger.Error("stuck, the watchdog is fed no longer", "err", err)
		}
		if !alive && err == nil {
			n.Logger.Info("moving on again")
		}
		alive = err == nil
		if now := n.Status(); stop != nil && now != status {
			status = now
			n.tell("STATUS=" + status)
		}
	}
}

func (n *Notifier) tellStopping() {
	n.tell(fmt.Sprintf("%s\nEXTEND_TIMEOUT_USEC=%d\nSTATUS=stopping", daemon.SdNotifyStopping, n.StopWithin.Microseconds()))
}

// every returns how often systemd hears of us: at least three times within the
// watchdog's patience.
func (n *Notifier) every() time.Duration {
	patience := n.feed
	if patience == 0 {
		var err error
		if patience, err = daemon.SdWatchdogEnabled(false); err != nil {
			n.Logger.Warn("watchdog not understood", "err", err)
		}
	}
	if patience > 0 {
		return min(patience/3, statusEvery)
	}
	return statusEvery
}

// tell sends one message, and reports whether there was anybody to send it to.
func (n *Notifier) tell(state string) bool {
	send := n.send
	if send == nil {
		send = func(state string) (bool, error) { return daemon.SdNotify(false, state) }
	}
	sent, err := send(state)
	if err != nil {
		n.Logger.Warn("systemd not told", "err", err)
		return true
	}
	return sent
}
