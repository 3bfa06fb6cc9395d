package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kirizan/kitt-agent/heartbeat"
)

// Errors of Submit; the latter also of Cancel.
var (
	// ErrDuplicate is matched by the error of a command that was accepted
	// before; it is not run again.
	ErrDuplicate = errors.New("this command was accepted before")

	// ErrNotAccepting is matched by the error of a command that comes while the
	// agent isn't running, or is stopping.
	ErrNotAccepting = errors.New("the agent takes no commands now")
)

// Submit hands the agent a command that did not come from its server, and
// returns its id, a new one where it had none. The command is on disk when
// Submit returns, and runs when its turn comes. The error is a [*CommandError]
// if the command makes no sense, and matches [ErrDuplicate] or
// [ErrNotAccepting].
func (a *Agent) Submit(cmd heartbeat.Command) (id string, err error) {
	return a.submit(cmd, sourceProgram)
}

func (a *Agent) submit(cmd heartbeat.Command, source string) (string, error) {
	if cmd.ID == "" {
		cmd.ID = newID()
	}
	if _, ok := safeID(cmd.ID); !ok {
		return "", badCommand("Invalid command_id: %s", printable(cmd.ID))
	}
	if cmd.TestID != "" && !idPattern.MatchString(cmd.TestID) {
		return "", badCommand("Invalid test_id: %s", printable(cmd.TestID))
	}
	s, err := parseCommand(cmd, true)
	if err != nil {
		return "", err
	}
	return cmd.ID, a.accept(cmd, s, nil, source)
}

// receive takes a command of the server's. One that makes no sense is accepted
// all the same and fails, so that it isn't left hanging on the server.
func (a *Agent) receive(ctx context.Context, cmd heartbeat.Command, source string) {
	if cmd.ID == "" {
		cmd.ID = cmd.TestID // always the same for the same command
	}
	if cmd.ID == "" {
		a.log.ErrorContext(ctx, "command without an id ignored", "type", printable(cmd.Type))
		return
	}
	s, fault := parseCommand(cmd, false)
	if fault == nil && !jobType(s.Type) {
		fault = badCommand("Unsupported command type: %s", s.Type)
	}
	if _, own := safeID(cmd.ID); !own {
		fault = badCommand("Invalid command_id: %s", printable(cmd.ID))
	}
	if err := checkText("test_id", cmd.TestID, maxID); err != nil {
		fault, cmd.TestID = err, "" // no address can name such a test
	}
	err := a.accept(cmd, s, fault, source)
	switch {
	case err == nil:
	case errors.Is(err, ErrDuplicate):
		a.log.DebugContext(ctx, "command is known already", "job", printable(cmd.ID))
	default:
		// The server will not offer it again, but it can be asked for it.
		a.lookup.Store(true)
		a.log.ErrorContext(ctx, "command not accepted, trying again later", "job", printable(cmd.ID), "err", err)
	}
}

// jobType reports whether commands of this type become jobs.
func jobType(t string) bool { return t == TypeRunTest || t == TypeCleanupStorage }

// accept makes a job of cmd: on disk first, then in the queue. A command with a
// fault makes a job that has failed from the start. Whoever gives the same command twice gets ErrDuplicate, also at
// the same moment and after a restart.
func (a *Agent) accept(cmd heartbeat.Command, s spec, fault error, source string) error {
	id, _ := safeID(cmd.ID)
	store, err := a.reserve(id)
	if err != nil {
		return err
	}
	defer a.intake.Done()
	o := newOrder(cmd, s, fault, source, time.Now())
	accepted, rec := newRecord(o), newRecord(o)
	if fault != nil {
		rec.fail(failure(fault))
	}
	j, err := store.create(id, o, rec)
	if err == nil {
		// One with a fault has failed on disk already, so that a crash from here
		// on runs nothing of it. Its log and its report are still to be made.
		j.spec, j.rec = s, accepted
	}
	a.mu.Lock()
	delete(a.reserved, id)
	if err == nil {
		a.jobs[id] = j
	}
	a.mu.Unlock()
	if errors.Is(err, errKnown) {
		return ErrDuplicate
	}
	if err != nil {
		return fmt.Errorf("write the command to disk: %w", err)
	}
	a.log.Info("job accepted", "job", id, "type", s.Type, "model", printable(s.Model), "source", source)
	if fault != nil {
		a.concludeWaiting(j, failure(fault))
	} else {
		a.queue.add(j)
	}
	a.dispatchCourier(j)
	return nil
}

// reserve claims id for a job that is about to be written, and has a stop wait
// for that. Whoever calls it calls a.intake.Done.
func (a *Agent) reserve(id string) (*store, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.accepting {
		return nil, ErrNotAccepting
	}
	if a.reserved[id] || a.jobs[id] != nil || a.store.ended(id) {
		return nil, ErrDuplicate
	}
	a.reserved[id] = true
	a.intake.Add(1)
	return a.store, nil
}
