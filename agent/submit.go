package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/kirizan/kitt-agent/agent/internal/execution"
	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/agent/internal/outbox"
	"github.com/kirizan/kitt-agent/heartbeat"
)

// Errors of Submit; the second one also of Cancel.
var (
	// ErrDuplicate is matched by the error of a command that was accepted
	// before; it is not run again.
	ErrDuplicate = errors.New("this command was accepted before")

	// ErrNotAccepting is matched by the error of a command that comes while the
	// agent isn't running, or is stopping.
	ErrNotAccepting = errors.New("the agent takes no commands now")
)

// Submit gives the agent a command that did not come from its server, and returns
// its id, a new one if it had none. The command is on disk when Submit returns, and
// runs when a slot is free. The error is a [*CommandError] if the command makes no
// sense, and matches [ErrDuplicate] or [ErrNotAccepting].
func (a *Agent) Submit(cmd heartbeat.Command) (id string, err error) {
	return a.intake.submit(cmd, jobs.FromProgram)
}

// An intake accepts commands: it makes a job of each, on disk first, then in the
// queue.
type intake struct {
	log      *slog.Logger
	registry *registry
	queue    *execution.Queue
	outbox   *outbox.Outbox
	executor *execution.Executor
	lost     func() // asks for another look at what the server handed out
}

// submit accepts a command of an operator or program.
func (i *intake) submit(cmd heartbeat.Command, source jobs.Source) (string, error) {
	if cmd.ID == "" {
		cmd.ID = jobs.NewID()
	}
	if !jobs.ValidID(cmd.ID) {
		return "", badCommand("Invalid command_id: %s", printable(cmd.ID))
	}
	if cmd.TestID != "" && !jobs.ValidID(cmd.TestID) {
		return "", badCommand("Invalid test_id: %s", printable(cmd.TestID))
	}
	c, err := parseCommand(cmd, true)
	if err != nil {
		return "", err
	}
	return cmd.ID, i.accept(c, nil, source)
}

// receive accepts a command of the server. One that makes no sense is accepted all
// the same and fails, so that it isn't left hanging on the server.
func (i *intake) receive(ctx context.Context, cmd heartbeat.Command, source jobs.Source) {
	if cmd.ID == "" {
		cmd.ID = cmd.TestID // always the same for the same command
	}
	if cmd.ID == "" {
		i.log.ErrorContext(ctx, "command without an id ignored", "type", printable(cmd.Type))
		return
	}
	c, fault := parseCommand(cmd, false)
	if fault == nil && !jobType(c.Type) {
		fault = badCommand("Unsupported command type: %s", c.Type)
	}
	if !jobs.ValidID(cmd.ID) {
		fault = badCommand("Invalid command_id: %s", printable(cmd.ID))
	}
	if err := checkText("test_id", cmd.TestID, maxTestID); err != nil {
		fault, c.TestID = err, "" // no address can name such a test
	}
	err := i.accept(c, fault, source)
	switch {
	case err == nil:
	case errors.Is(err, ErrDuplicate):
		i.log.DebugContext(ctx, "command is known already", "job", printable(cmd.ID))
	default:
		// The server will not offer it again, but it can be asked for it.
		i.lost()
		i.log.ErrorContext(ctx, "command not accepted, trying again later", "job", printable(cmd.ID), "err", err)
	}
}

// accept makes a job of c. A command with a fault makes a job that has failed from the
// start, and of which nothing is kept that could run. The same command gets
// ErrDuplicate, also at the same moment and after a restart.
func (i *intake) accept(c jobs.Command, fault error, source jobs.Source) error {
	var outcome *jobs.Outcome
	c.ID, _ = jobs.SafeID(c.ID)
	if fault != nil {
		o := execution.Failed(fault)
		outcome = &o
		c.Spec, c.Type = jobs.Spec{}, printable(c.Type)
	}
	j, err := i.registry.create(c, source, outcome)
	if errors.Is(err, ErrDuplicate) || errors.Is(err, ErrNotAccepting) {
		return err
	}
	if err != nil {
		return fmt.Errorf("write the command to disk: %w", err)
	}
	i.log.Info("job accepted", "job", j.ID, "type", c.Type, "model", printable(c.Spec.Model), "source", string(source))
	if outcome != nil {
		i.executor.FinalizeWaiting(j, *outcome)
	} else {
		i.queue.Add(j)
	}
	i.outbox.Deliver(j)
	return nil
}
