package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/kirizan/kitt-agent/agent/internal/enginejobs"
	"github.com/kirizan/kitt-agent/agent/internal/execution"
	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/agent/internal/outbox"
	"github.com/kirizan/kitt-agent/agent/policy"
	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/runner"
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

// A Benchmark describes a benchmark to run. Model is required.
type Benchmark struct {
	Model  string // a path on the share or this machine, or an identifier that the engine fetches itself
	Engine string // vllm, llama_cpp, ollama, exllamav2 or mlx; defaults to vllm
	Suite  string // quick, standard or performance; defaults to quick
	Mode   string // docker or native; empty leaves the choice to kitt
	Name   string // shown in the log; defaults to throughput

	// Exclusive has it wait until no other benchmark runs, and others wait for it.
	Exclusive bool

	// ID is the job's id: letters, digits, dots, underscores and hyphens, at most
	// 64. Of several benchmarks with one ID only the first runs, also after a
	// restart. Defaults to a random one.
	ID string

	// TestID is the server's test that the job stands for. Without one the server
	// gets the result, but neither status nor log.
	TestID string
}

// Submit gives the agent a benchmark to run, and returns the job's id. The job is on
// disk when Submit returns, and runs when a slot is free. The error is a
// [*CommandError] if the benchmark makes no sense. It matches [ErrDuplicate],
// [ErrNotAccepting], or runner.ErrUnavailable if the runner knows that it can run
// none.
func (a *Agent) Submit(b Benchmark) (id string, err error) {
	c := jobs.Command{
		ID: b.ID, TestID: b.TestID, Type: TypeRunTest,
		Spec: jobs.Spec{Model: b.Model, Engine: b.Engine, Suite: b.Suite, Mode: b.Mode, Benchmark: b.Name, Exclusive: jobs.Flag(b.Exclusive)},
	}
	id, err = a.intake.submit(c, jobs.FromProgram)
	a.audit.submitted(c, cmp.Or(id, b.ID), err)
	return id, err
}

// RemoveModel starts a job that removes the agent's local copies of model, or of all
// models if it is empty, as far as no job uses them. It returns the job's id; the error
// is as that of Submit.
func (a *Agent) RemoveModel(model string) (id string, err error) {
	c := jobs.Command{Type: TypeCleanupStorage, Spec: jobs.Spec{Model: model}}
	id, err = a.intake.submit(c, jobs.FromProgram)
	a.audit.submitted(c, id, err)
	return id, err
}

// An intake accepts commands: it makes a job of each, on disk first, then in the
// queue.
type intake struct {
	log      *slog.Logger
	audit    *auditor
	registry *registry
	queue    *execution.Queue
	outbox   *outbox.Outbox
	executor *execution.Executor
	engines  *enginejobs.Jobs
	events   *eventHub
	checker  runner.Checker // nil if the runner knows nothing beforehand
	lost     func()         // asks for another look at what the server handed out
	refused  func()         // called after a command of the server's was refused
}

// submitJSON accepts a command of an operator as it came over HTTP.
func (i *intake) submitJSON(cmd heartbeat.Command) (string, error) {
	c, err := decodeCommand(cmd)
	if err != nil {
		return "", err
	}
	return i.submit(c, jobs.FromAPI)
}

// submit accepts a command of an operator or program.
func (i *intake) submit(c jobs.Command, source jobs.Source) (string, error) {
	if c.ID == "" {
		c.ID = jobs.NewID()
	}
	if !jobs.ValidID(c.ID) {
		return "", badCommand("Invalid command_id: %s", printable(c.ID))
	}
	if c.TestID != "" && !jobs.ValidID(c.TestID) {
		return "", badCommand("Invalid test_id: %s", printable(c.TestID))
	}
	c, err := checkCommand(c, true)
	if err == nil {
		err = i.cannotRun(c)
	}
	if err != nil {
		return "", err
	}
	return c.ID, i.accept(c, nil, source)
}

// cannotRun returns why c can't be carried out, if that is known before the command is
// accepted.
func (i *intake) cannotRun(c jobs.Command) error {
	if err := i.engines.Check(c); err != nil {
		return &CommandError{Text: err.Error(), Err: err}
	}
	if i.checker == nil || c.Type != TypeRunTest {
		return nil
	}
	return i.checker.Check()
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
	if fault == nil && !c.IsJob() {
		fault = badCommand("Unsupported command type: %s", c.Type)
	}
	if !jobs.ValidID(cmd.ID) {
		fault = badCommand("Invalid command_id: %s", printable(cmd.ID))
	}
	if err := checkText("test_id", cmd.TestID, maxTestID); err != nil {
		fault, c.TestID = err, "" // no address can name such a test
	}
	if fault == nil {
		fault = i.cannotRun(c)
	}
	err := i.accept(c, fault, source)
	i.audit.command(policy.ByServer, "", cmd, c.Spec.Model, cmp.Or(err, fault))
	switch {
	case err == nil && fault != nil:
		i.refused()
	case err == nil:
	case errors.Is(err, ErrDuplicate):
		i.log.DebugContext(ctx, "command is known already", "job", printable(cmd.ID))
		i.repeat(cmd.ID)
	default:
		// The server will not offer it again, but it can be asked for it.
		i.lost()
		i.log.ErrorContext(ctx, "command not accepted, trying again later", "job", printable(cmd.ID), "err", err)
	}
}

// repeat has the reports of a job sent again whose command the server handed out once
// more: it has lost them.
func (i *intake) repeat(id string) {
	if j := i.registry.find(id); j != nil && j.State().Ended() {
		i.outbox.Repeat(j)
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
	i.events.jobEvent(EventAccepted, j)
	i.log.Info("job accepted", "job", j.ID, "type", c.Type, "model", printable(c.Spec.Model), "source", string(source))
	if outcome != nil {
		i.executor.FinalizeWaiting(j, *outcome)
	} else {
		i.queue.Add(j)
	}
	i.outbox.Deliver(j)
	return nil
}
