package native

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/engine"
)

const (
	healthPause   = 200 * time.Millisecond // between two questions
	healthLimit   = 2 * time.Second        // for one of them
	progressEvery = 15 * time.Second       // in the log
)

// Start starts an engine and waits until it is healthy.
func (m *Manager) Start(ctx context.Context, l engine.Launch, from runner.Position, out runner.Output) error {
	if ctx.Err() != nil {
		return m.given(ctx, l)
	}
	r, err := m.begin(l, out)
	if err != nil {
		return err
	}
	if r == nil {
		return nil // it was healthy before
	}
	defer r.relay.detach()
	if err := r.relay.attach(out, from); err != nil {
		return m.giveUp(r, err)
	}
	if r.record().Ready {
		return nil
	}
	return m.awaitHealthy(ctx, r, out)
}

// given ends what a launch has started before, for a start that is cancelled.
func (m *Manager) given(ctx context.Context, l engine.Launch) error {
	cause := context.Cause(ctx)
	if r := m.find(l.Engine); r != nil && r.record().Launch.ID == l.ID && !errors.Is(cause, runner.ErrDetach) {
		if err := r.end(errStopped); err != nil {
			return fmt.Errorf("%w; %w", cause, err)
		}
	}
	return cause
}

// begin returns the run of l, which it starts if no earlier call did.
func (m *Manager) begin(l engine.Launch, out runner.Output) (*run, error) {
	spec, ok := engine.Lookup(l.Engine)
	if !ok || !spec.Startable() {
		return nil, engine.ErrUnknown(l.Engine)
	}
	settings, err := spec.Parse(l.Config)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	r := &run{spec: spec, dir: m.dirOf(spec.Name), cancel: cancel, ended: make(chan struct{})}
	r.rec = record{Version: recordVersion, Launch: l, Port: settings.Port, Host: askAt(m.cfg.Listen), Started: time.Now().UTC()}
	r.relay.keep = true // until the caller has attached its own
	if before, err := m.reserve(r); before != nil || err != nil {
		cancel(nil)
		return before, err
	}
	if err := m.prepare(r, settings, out); err != nil {
		m.mu.Lock()
		delete(m.runs, spec.Name)
		m.mu.Unlock()
		cancel(nil)
		r.how = err
		close(r.ended)
		return nil, err
	}
	m.log.Info("engine starting", "engine", spec.Name, "model", l.Model, "port", settings.Port)
	m.follow(ctx, r, false)
	return r, nil
}

// reserve makes r the run of its engine, unless one runs: that of an earlier call for the
// same launch is returned.
func (m *Manager) reserve(r *run) (before *run, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, other := range m.runs {
		rec := other.record()
		if name == r.spec.Name && rec.Launch.ID == r.rec.Launch.ID {
			return other, nil
		}
		err := fault.New(engine.ClassBusy, "kitt-agent engines stop "+name, "%s runs already, on port %d since %s", name, rec.Port, rec.Started.Format(time.DateTime))
		err.Err = engine.ErrRunning
		return nil, err
	}
	m.runs[r.spec.Name] = r
	return nil, nil
}

// prepare checks that r can be started, and writes down that it will be.
func (m *Manager) prepare(r *run, settings engine.Settings, out runner.Output) error {
	rec := r.record()
	if old, err := readRecord(r.dir); err == nil && old.Launch.ID == rec.Launch.ID {
		// An earlier program started it and did not live to say how that went.
		return fault.New(engine.ClassHealth, "start it again", "%s was started before and has ended: %s", r.spec.Name, orStopped(old.How))
	}
	found, err := m.cfg.Finder.Find(r.spec)
	if err != nil {
		return err
	}
	if engine.PortTaken(settings.Port) {
		return fault.New(engine.ClassBusy, "stop the program that has it, or choose another port in runtime_config",
			"port %d is taken, so %s can't listen on it", settings.Port, r.spec.Name)
	}
	if rec.Launch.Model != "" && r.spec.ModelFlag == "" {
		if err := out.WriteMessage(fmt.Sprintf("%s serves the models that it has; model_path %s has no effect", r.spec.Name, rec.Launch.Model)); err != nil {
			return err
		}
	}
	if err := newDir(r.dir); err != nil {
		return err
	}
	args, env := r.spec.Command(settings, m.cfg.Listen, rec.Launch.Model)
	return r.update(func(rec *record) {
		rec.Command, rec.Env = append(append(rec.Command, found.Command...), args...), env
	})
}

func orStopped(how string) string {
	if how == "" {
		return "it was stopped"
	}
	return how
}

// awaitHealthy waits until the engine answers, and ends it if that doesn't happen.
func (m *Manager) awaitHealthy(ctx context.Context, r *run, out runner.Output) error {
	rec := r.record()
	url := "http://" + net.JoinHostPort(rec.Host, strconv.Itoa(rec.Port)) + r.spec.Health
	deadline := time.NewTimer(time.Until(rec.Started.Add(m.cfg.StartTimeout)))
	defer deadline.Stop()
	tick := time.NewTicker(healthPause)
	defer tick.Stop()
	said := time.Now()
	for {
		err := m.healthy(ctx, r, url)
		if err == nil {
			took := time.Since(rec.Started).Round(100 * time.Millisecond)
			if err := r.update(func(rec *record) { rec.Ready = true }); err != nil {
				return m.giveUp(r, err)
			}
			m.log.Info("engine healthy", "engine", r.spec.Name, "port", rec.Port, "took", took)
			return out.WriteMessage(fmt.Sprintf("%s is healthy after %s: %s", r.spec.Name, took, url))
		}
		if time.Since(said) >= progressEvery {
			said = time.Now()
			text := fmt.Sprintf("%s is not healthy yet, after %s of at most %s: %v", r.spec.Name, time.Since(rec.Started).Round(time.Second), m.cfg.StartTimeout, err)
			if err := out.WriteMessage(text); err != nil {
				return m.giveUp(r, err)
			}
		}
		select {
		case <-tick.C:
		case <-r.ended:
			return r.failed()
		case <-deadline.C:
			return m.giveUp(r, fault.New(engine.ClassHealth, "see its output above; engines.start_timeout in agent.yaml is the limit",
				"%s was not healthy after %s: %v%s", r.spec.Name, m.cfg.StartTimeout, err, quote(r.relay.lastLines())))
		case <-ctx.Done():
			cause := context.Cause(ctx)
			if errors.Is(cause, runner.ErrDetach) {
				return cause
			}
			return m.giveUp(r, cause)
		}
	}
}

// giveUp ends a run that did not come about because of err.
func (m *Manager) giveUp(r *run, err error) error {
	if e := r.end(errStopped); e != nil {
		return fmt.Errorf("%w; %w", err, e)
	}
	return err
}

// failed returns the error for an engine that ended before it was healthy.
func (r *run) failed() error {
	if r.how == nil {
		return fault.New(engine.ClassHealth, "", "%s was stopped before it was healthy", r.spec.Name)
	}
	if errors.Is(r.how, runner.ErrDetach) {
		return r.how
	}
	return fault.New(engine.ClassHealth, "see its output above", "%s ended before it was healthy: %w%s", r.spec.Name, r.how, quote(r.relay.lastLines()))
}

func quote(lines string) string {
	if lines == "" {
		return ""
	}
	return "; its last lines: " + lines
}

// askAt returns where an engine that listens on an address can be asked.
func askAt(listen string) string {
	if ip := net.ParseIP(listen); ip != nil && ip.IsUnspecified() {
		return DefaultListen
	}
	return listen
}

// newHealthClient returns what asks engines. None may send it elsewhere, and no proxy is
// asked.
func newHealthClient() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       healthLimit,
	}
}

// healthy returns nil if the engine of r, and not another program on its port, says that
// it works.
func (m *Manager) healthy(ctx context.Context, r *run, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := m.health.Do(req)
	if err != nil {
		return errors.New("it does not answer")
	}
	_, _ = io.CopyN(io.Discard, answer.Body, 64<<10) // politeness; the status says it
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", r.spec.Health, answer.Status)
	}
	if _, ok := engine.ListensOn(r.record().Port, r.pid()); !ok {
		return fmt.Errorf("another program answers on port %d", r.record().Port)
	}
	return nil
}
