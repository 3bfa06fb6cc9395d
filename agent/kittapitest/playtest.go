package kittapitest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/simulated"
)

// queueDelay is how long a test agent's test stays queued, at Speed 1. The real
// server takes between one second and two.
const queueDelay = 1500 * time.Millisecond

// errEnded is why a test is played no further.
var errEnded = errors.New("the test has ended otherwise")

// playLocked starts to play a test of a test agent. s.mu must be held.
func (s *Server) playLocked(t *testRow) {
	if s.closed {
		return
	}
	ctx, stop := context.WithCancelCause(context.Background())
	t.stop = stop
	a := t.agent.testAgent()
	s.plays.Go(func() {
		defer stop(nil)
		s.play(ctx, t, a)
	})
}

// stopPlaysLocked ends all that is being played. s.mu must be held.
func (s *Server) stopPlaysLocked() {
	for _, t := range s.tests {
		if t.stop != nil {
			t.stop(errEnded)
		}
	}
}

// play does with a test what an agent does, by the same path: status, log,
// result, status.
func (s *Server) play(ctx context.Context, t *testRow, a TestAgent) {
	data, err := s.run(ctx, t, a)
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return // somebody ended it, or the server is gone
	}
	status, reason := "completed", ""
	if err != nil {
		status, reason = "failed", err.Error()
	}
	report := newObject("command_id", t.command_, "status", status, "container_id", "", "error", reason)
	if data != nil {
		report.set("result_data", data)
	}
	if got := s.deliverLocked(t.agent, report); got.status >= http.StatusBadRequest {
		status, reason = "failed", fmt.Sprintf("the result was refused with %d", got.status)
	}
	if status == "completed" {
		s.logLocked(t, fmt.Sprintf("Result saved for %s on %s", lastPart(t.model), t.engine))
	}
	s.setStatusLocked(t, status, reason)
	for _, p := range s.campaigns {
		if p.active && p.test == t {
			s.lookLocked(p)
		}
	}
}

// run waits for the test's turn and lets it run, and returns its result data.
func (s *Server) run(ctx context.Context, t *testRow, a TestAgent) (*object, error) {
	cfg := s.cfg.TestAgents
	cfg.Hardware = a.Hardware
	if a.Scenario != (simulated.Scenario{}) {
		cfg.Scenario = a.Scenario
	}
	if cfg.Now == nil {
		cfg.Now = s.now
	}
	var metrics []byte
	cfg.WriteFile = func(_ string, data []byte) error {
		metrics = data
		return nil
	}
	benchmark, err := simulated.New(cfg)
	if err != nil {
		return nil, err
	}
	if err := pause(ctx, cfg, time.Duration(float64(queueDelay)*cfg.Speed)); err != nil {
		return nil, err
	}
	s.mu.Lock()
	if ctx.Err() == nil {
		s.setStatusLocked(t, "running", "")
	}
	s.mu.Unlock()
	job := runner.Job{
		ID: t.command_, Model: t.model, Engine: t.engine, Suite: t.suite, Mode: t.mode,
		ResultsDir: "/results/" + t.command_,
	}
	out := &testLog{ctx: ctx, s: s, t: t}
	_, err = benchmark.Run(ctx, job, runner.NewOutput(out))
	out.flush()
	if err != nil {
		return nil, err
	}
	return resultData(metrics, t), nil
}

// pause waits for d as the simulation does.
func pause(ctx context.Context, cfg simulated.Config, d time.Duration) error {
	switch {
	case d <= 0:
		return context.Cause(ctx)
	case cfg.Sleep != nil:
		return cfg.Sleep(ctx, d)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// resultData returns metrics.json as result data, nil where it is missing or
// broken. Like the real server's own it calls the model by the last part of its
// path and has a fingerprint that says where it comes from.
func resultData(metrics []byte, t *testRow) *object {
	v, err := parse(metrics)
	data, isObject := v.(*object)
	if err != nil || !isObject {
		return nil
	}
	data.set("model", lastPart(t.model))
	if info, isObject := data.get("system_info").(*object); isObject {
		info.set("fingerprint", "test-agent-"+t.agent.id)
	}
	return data
}

func lastPart(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// A testLog makes a test's log of what its run prints. Of a line that was drawn
// again and again behind carriage returns it keeps the last state.
type testLog struct {
	ctx     context.Context
	s       *Server
	t       *testRow
	partial strings.Builder
}

func (l *testLog) Write(p []byte) (int, error) {
	text := string(p)
	for {
		line, rest, found := strings.Cut(text, "\n")
		l.partial.WriteString(line)
		if !found {
			return len(p), nil
		}
		l.end()
		text = rest
	}
}

// end ends the line, unless the test has ended meanwhile.
func (l *testLog) end() {
	line := l.partial.String()
	l.partial.Reset()
	line = strings.TrimRight(line, "\r")
	line = strings.ToValidUTF8(line[strings.LastIndexByte(line, '\r')+1:], "\uFFFD")
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if l.ctx.Err() == nil {
		l.s.logLocked(l.t, line)
	}
}

func (l *testLog) flush() {
	if l.partial.Len() > 0 {
		l.end()
	}
}
