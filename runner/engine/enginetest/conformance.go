package enginetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/engine"
)

// Test checks that m satisfies the contract of [engine.Manager]. The engine that launch
// names is installed, not running, and becomes healthy; nothing else runs. Test returns
// all violations that it finds.
func Test(ctx context.Context, m engine.Manager, launch engine.Launch) error {
	t := &tester{ctx: ctx, m: m, launch: launch, out: runner.NewOutput(io.Discard)}
	t.notRunning()
	t.refused()
	t.started()
	t.watched()
	t.detached()
	t.cancelled()
	return errors.Join(t.faults...)
}

type tester struct {
	ctx    context.Context
	m      engine.Manager
	launch engine.Launch
	out    runner.Output
	faults []error
}

func (t *tester) expect(ok bool, format string, args ...any) {
	if !ok {
		t.faults = append(t.faults, fmt.Errorf(format, args...))
	}
}

// state returns what Detect says of the engine.
func (t *tester) state() engine.Status {
	all, err := t.m.Detect(t.ctx)
	t.expect(err == nil, "Detect: %v", err)
	for _, s := range all {
		if s.Name == t.launch.Engine {
			return s
		}
	}
	t.expect(false, "Detect does not list %s", t.launch.Engine)
	return engine.Status{}
}

func (t *tester) start(ctx context.Context, l engine.Launch) error {
	return t.m.Start(ctx, l, 0, t.out)
}

// notRunning checks what holds before anything was started.
func (t *tester) notRunning() {
	s := t.state()
	t.expect(s.Installed && s.Launch == nil, "before a start: %+v", s)
	err := t.m.Stop(t.ctx, t.launch.Engine, t.out)
	t.expect(errors.Is(err, engine.ErrNotRunning), "Stop of an engine that isn't running: %v", err)
	err = t.m.Watch(t.ctx, t.launch.Engine)
	t.expect(err == nil, "Watch of an engine that isn't running: %v", err)
}

// refused checks that nonsense starts nothing.
func (t *tester) refused() {
	l := t.launch
	l.ID, l.Engine = "conformance-unknown", "no-such-engine"
	t.expect(t.start(t.ctx, l) != nil, "an unknown engine was started")
	t.expect(t.m.Install(t.ctx, l.Engine, t.out) != nil, "an unknown engine was installed")
	l = t.launch
	l.ID, l.Config = "conformance-config", []byte(`{"no-such-key": 1}`)
	t.expect(t.start(t.ctx, l) != nil, "an unknown key of runtime_config was accepted")
	t.expect(t.state().Launch == nil, "something runs after a refused start")
}

// started checks one engine from its start to its stop.
func (t *tester) started() {
	if err := t.start(t.ctx, t.launch); err != nil {
		t.expect(false, "Start: %v", err)
		return
	}
	s := t.state()
	t.expect(s.Running && s.Ready && s.Launch != nil && s.Launch.ID == t.launch.ID && !s.Since.IsZero(), "after Start: %+v", s)
	t.expect(t.start(t.ctx, t.launch) == nil, "Start with the same ID does not return the engine that runs")
	again := t.launch
	again.ID += "-again"
	err := t.start(t.ctx, again)
	t.expect(errors.Is(err, engine.ErrRunning), "a second Start: %v", err)
	t.expect(t.state().Launch != nil, "a second Start ended the first one's engine")
	err = t.m.Stop(t.ctx, t.launch.Engine, t.out)
	t.expect(err == nil, "Stop: %v", err)
	s = t.state()
	t.expect(s.Launch == nil, "after Stop: %+v", s)
}

// watched checks that Watch sees an end.
func (t *tester) watched() {
	l := t.launch
	l.ID += "-watched"
	if err := t.start(t.ctx, l); err != nil {
		t.expect(false, "Start after a Stop: %v", err)
		return
	}
	cause := errors.New("enough")
	ctx, stop := context.WithCancelCause(t.ctx)
	stop(cause)
	err := t.m.Watch(ctx, l.Engine)
	t.expect(errors.Is(err, cause), "Watch with a context that is done: %v", err)
	watched := make(chan error, 1)
	go func() { watched <- t.m.Watch(t.ctx, l.Engine) }()
	err = t.m.Stop(t.ctx, l.Engine, t.out)
	t.expect(err == nil, "Stop: %v", err)
	err = <-watched
	t.expect(err == nil, "Watch of an engine that was stopped: %v", err)
}

// detached checks that a start that the caller detached from can be resumed.
func (t *tester) detached() {
	l := t.launch
	l.ID += "-detached"
	ctx, detach := context.WithCancelCause(t.ctx)
	timer := time.AfterFunc(time.Millisecond, func() { detach(runner.ErrDetach) })
	defer timer.Stop()
	err := t.start(ctx, l)
	t.expect(err == nil || errors.Is(err, runner.ErrDetach), "a Start that is detached from: %v", err)
	err = t.start(t.ctx, l)
	t.expect(err == nil, "Start goes on with one that was detached from: %v", err)
	err = t.m.Stop(t.ctx, l.Engine, t.out)
	t.expect(err == nil, "Stop: %v", err)
}

// cancelled checks that a cancelled start leaves nothing behind.
func (t *tester) cancelled() {
	l := t.launch
	l.ID += "-cancelled"
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.ctx)
	cancel(cause)
	err := t.start(ctx, l)
	t.expect(errors.Is(err, cause), "a cancelled Start: %v", err)
	s := t.state()
	t.expect(s.Launch == nil, "after a cancelled Start: %+v", s)
}
