// Package systemd speaks to systemd about one unit: it asks for its state,
// has it started, stopped and restarted, and installs and removes it.
//
// Everything goes through the programs that a person would use, systemctl and
// journalctl, since they are what sudo is set up for. What needs root and isn't
// root goes through sudo, which asks for a password only on a terminal.
package systemd

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// A Unit names a service of systemd.
type Unit struct {
	// Name is the unit's name, such as kitt-agent.service.
	Name string

	// User says that it is a service of the user's own systemd rather than of
	// the machine's.
	User bool

	// Terminal is where sudo may ask for a password. Nil lets it ask nowhere.
	Terminal *os.File
}

// Active reports whether the unit is running, or on its way there. That systemd
// knows no such unit, or that there is no systemd, is no error.
func (u Unit) Active(ctx context.Context) (bool, error) {
	state, err := u.State(ctx)
	if errors.Is(err, ErrNoSystemd) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return state.Running(), nil
}

// Restart stops the unit, if it runs, and starts it. It returns once the service
// says that it is ready, with systemd's own words if it fails to get there.
func (u Unit) Restart(ctx context.Context) error {
	if err := u.control(ctx, "restart", u.Name); err != nil {
		return fmt.Errorf("restart %s: %w", u.Name, err)
	}
	return nil
}
