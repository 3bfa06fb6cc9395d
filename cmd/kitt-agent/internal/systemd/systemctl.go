package systemd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"
)

// Bounds of what a program that we start may take and say.
const (
	askTimeout = 10 * time.Second
	maxOutput  = 64 << 10
	killWait   = 2 * time.Second // for its pipes, once it is gone
)

// ErrNoSystemd is matched by the error of everything here where there is no
// systemd to ask.
var ErrNoSystemd = errors.New("this machine is not run by systemd")

// ask runs systemctl with a question, which needs no root, and returns its
// answer.
func (u Unit) ask(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return run(ctx, nil, u.systemctl(args...)...)
}

// control runs systemctl with an order, as root where the unit is the machine's.
// It has no deadline but ctx's: a service may take long to stop.
func (u Unit) control(ctx context.Context, args ...string) error {
	_, err := u.asRoot(ctx, u.systemctl(args...)...)
	return err
}

func (u Unit) systemctl(args ...string) []string {
	argv := []string{"systemctl"}
	if u.User {
		argv = append(argv, "--user")
	}
	return append(argv, args...)
}

// asRoot runs a program as root, or as the user where the unit is the user's
// own.
func (u Unit) asRoot(ctx context.Context, argv ...string) (string, error) {
	if u.User || os.Geteuid() == 0 {
		return run(ctx, nil, argv...)
	}
	if u.Terminal != nil && term.IsTerminal(int(u.Terminal.Fd())) {
		return run(ctx, u.Terminal, append([]string{"sudo", "--"}, argv...)...)
	}
	return run(ctx, nil, append([]string{"sudo", "-n", "--"}, argv...)...)
}

// run runs a program and returns what it prints. The error holds its own words.
func run(ctx context.Context, stdin *os.File, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.WaitDelay = killWait
	var out, errs bounded
	cmd.Stdout, cmd.Stderr = &out, &errs
	if stdin != nil {
		cmd.Stdin, cmd.Stderr = stdin, os.Stderr // where sudo asks
	}
	err := cmd.Run()
	switch {
	case err == nil:
		return out.String(), nil
	case slices.Contains(argv, "systemctl") && !booted():
		return "", ErrNoSystemd
	case ctx.Err() != nil:
		return "", fmt.Errorf("%s: %w", strings.Join(argv, " "), ctx.Err())
	}
	if words := strings.TrimSpace(errs.String()); words != "" {
		return out.String(), fmt.Errorf("%s: %s", strings.Join(argv, " "), words)
	}
	return out.String(), fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
}

// booted reports whether systemd runs this machine, as sd_booted(3) does.
func booted() bool {
	info, err := os.Lstat("/run/systemd/system")
	return err == nil && info.IsDir()
}

// bounded keeps the beginning of what is written to it.
type bounded struct{ buf bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	b.buf.Write(p[:min(len(p), maxOutput-b.buf.Len())])
	return len(p), nil
}

func (b *bounded) String() string { return b.buf.String() }
