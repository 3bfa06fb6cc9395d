package systemd

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// State is the state of a unit.
type State struct {
	Load        string    // loaded, not-found, masked, error, …
	Active      string    // active, activating, inactive, failed, …
	Sub         string    // running, dead, auto-restart, …
	Enabled     string    // enabled, disabled, …; empty if there is no such unit
	File        string    // path of the unit's file; empty if there is none
	Since       time.Time // of Active; zero if it never changed
	PID         int       // of the main process; 0 if none runs
	Restarts    int       // by systemd itself, since the unit was last started
	MemoryBytes int64     // of all its processes; -1 if unknown
	Text        string    // what the service last said of itself
	Result      string    // why it failed last: exit-code, watchdog, …; success if it didn't
	NeedReload  bool      // whether the file has changed since systemd read it
}

// Running reports whether the service runs, or is on its way there.
func (s State) Running() bool {
	switch s.Active {
	case "active", "activating", "reloading":
		return s.Sub != "auto-restart" && s.Sub != "auto-restart-queued"
	}
	return false
}

// Installed reports whether systemd knows the unit.
func (s State) Installed() bool { return s.Load != "" && s.Load != "not-found" }

var properties = []string{"LoadState", "ActiveState", "SubState", "UnitFileState", "FragmentPath",
	"StateChangeTimestampMonotonic", "MainPID", "NRestarts", "MemoryCurrent", "StatusText", "Result", "NeedDaemonReload"}

// State asks systemd for the state of the unit. An unknown unit is no error.
func (u Unit) State(ctx context.Context) (State, error) {
	out, err := u.ask(ctx, "show", "--property="+strings.Join(properties, ","), "--", u.Name)
	if err != nil {
		return State{}, fmt.Errorf("ask systemd about %s: %w", u.Name, err)
	}
	return parseState(out, time.Now(), monotonic()), nil
}

// parseState reads what `systemctl show` prints: lines of the form name=value,
// in systemd's own order. Its instants are microseconds of CLOCK_MONOTONIC, which
// every version prints alike; now and uptime are the same instant on both clocks.
func parseState(text string, now time.Time, uptime time.Duration) State {
	s := State{MemoryBytes: -1}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimRight(line, "\n"), "=")
		switch name {
		case "LoadState":
			s.Load = value
		case "ActiveState":
			s.Active = value
		case "SubState":
			s.Sub = value
		case "UnitFileState":
			s.Enabled = value
		case "FragmentPath":
			s.File = value
		case "StateChangeTimestampMonotonic":
			if us, err := strconv.ParseInt(value, 10, 64); err == nil && us > 0 && us <= uptime.Microseconds() {
				s.Since = now.Add(time.Duration(us)*time.Microsecond - uptime)
			}
		case "MainPID":
			s.PID, _ = strconv.Atoi(value)
		case "NRestarts":
			s.Restarts, _ = strconv.Atoi(value)
		case "MemoryCurrent":
			if n, err := strconv.ParseInt(value, 10, 64); err == nil {
				s.MemoryBytes = n
			}
		case "StatusText":
			s.Text = value
		case "Result":
			s.Result = value
		case "NeedDaemonReload":
			s.NeedReload = value == "yes"
		}
	}
	return s
}

// monotonic returns the time on CLOCK_MONOTONIC, 0 if there is none.
func monotonic() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
