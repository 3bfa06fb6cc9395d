// Package systemd tells systemd the state of the agent that runs as its service: when
// it is ready, what it does, that it still works, and how long a stop takes. The
// unit has Type=notify and, for the watchdog, WatchdogSec=.
package systemd

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/kirizan/kitt-agent/agent"
)

// statusEvery is the time between two statuses, where the watchdog does not ask for
// more.
const statusEvery = 10 * time.Second

// A Notifier tells the systemd that started this process the state of the service
// in it (sd_notify(3)). Ready and Alive are required.
type Notifier struct {
	// Ready is closed once the service does its work.
	Ready <-chan struct{}

	// Alive returns nil while the service works. Once it returns an error, or does
	// not return, the watchdog is no longer fed, and systemd ends the process and
	// starts it again.
	Alive func() error

	// Status returns in one line what the service does. Nil sends none.
	Status func() string

	// StopWithin is how long the service takes at most to stop.
	StopWithin time.Duration

	// Logger is told when the watchdog is no longer fed. Nil discards that.
	Logger *slog.Logger

	send func(state string) (sent bool, err error) // nil for the socket of NOTIFY_SOCKET
	feed time.Duration                             // the watchdog's period in tests
}

// NewNotifier returns a Notifier for a, which takes at most stopWithin to stop:
// agent.Config.DrainTimeout, and a minute to be safe.
func NewNotifier(a *agent.Agent, stopWithin time.Duration, log *slog.Logger) *Notifier {
	return &Notifier{
		Ready:      a.Ready(),
		Alive:      a.Alive,
		Status:     func() string { return summary(a.Status()) },
		StopWithin: stopWithin,
		Logger:     log,
	}
}

// Run tells systemd the state of the service until ctx is done, which is when the
// service has ended. stopping is done from when the service is told to stop. Run
// returns at once in a process that systemd didn't start, or not as a service of
// Type=notify.
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
	status := n.status()
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
			n.log().Error("stuck, the watchdog is fed no longer", "err", err)
		}
		if !alive && err == nil {
			n.log().Info("moving on again")
		}
		alive = err == nil
		if now := n.status(); stop != nil && now != status {
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
			n.log().Warn("watchdog not understood", "err", err)
		}
	}
	if patience > 0 {
		return min(patience/3, statusEvery)
	}
	return statusEvery
}

func (n *Notifier) status() string {
	if n.Status == nil {
		return ""
	}
	return n.Status()
}

func (n *Notifier) log() *slog.Logger {
	if n.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return n.Logger
}

// tell sends one message, and reports whether there was anybody to send it to.
func (n *Notifier) tell(state string) bool {
	send := n.send
	if send == nil {
		send = func(state string) (bool, error) { return daemon.SdNotify(false, state) }
	}
	sent, err := send(state)
	if err != nil {
		n.log().Warn("systemd not told", "err", err)
		return true
	}
	return sent
}
