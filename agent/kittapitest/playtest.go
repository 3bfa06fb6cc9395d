package kittapitest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/simulated"
)

// queueDelay is how long a test agent's test stays queued at Speed 1. With the real
// server it is between one second and two.
const queueDelay = 1500 * time.Millisecond

// errEnded is why a simulation stops.
var errEnded = errors.New("the test was ended by someone else")

// playLocked starts the simulation of a test agent's test. s.mu must be held.
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

// stopPlaysLocked stops all simulations. s.mu must be held.
func (s *Server) stopPlaysLocked() {
	for _, t := range s.tests {
		if t.stop != nil {
			t.stop(errEnded)
		}
	}
}

// play does with a test what an agent does, in the same way: status, log, result,
// status.
func (s *Server) play(ctx context.Context, t *testRow, a TestAgent) {
	data, err := s.run(ctx, t, a)
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return // the test was ended, or the server closed
	}
	status, reason := "completed", ""
	if err != nil {
		status, reason = "failed", err.Error()
	}
	report := newObject("command_id", t.command_, "status", status, "container_id", "", "error", reason)
	if data != nil {
		report["result_data"] = data
	}
	if got := s.deliverLocked(t.agent, report); got.status >= http.StatusBadRequest {
		status, reason = "failed", fmt.Sprintf("the result was rejected with %d", got.status)
	}
	if status == "completed" {
		s.logLocked(t, fmt.Sprintf("Result saved for %s on %s", lastPart(t.model), t.engine))
	}
	s.setStatusLocked(t, status, reason)
	for _, p := range s.campaigns {
		if p.active && p.test == t {
			s.checkTestLocked(p)
		}
	}
}

// run waits while the test is queued, runs it and returns its result data.
func (s *Server) run(ctx context.Context, t *testRow, a TestAgent) (object, error) {
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
	out := &lineWriter{write: func(line string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if ctx.Err() == nil {
			s.logLocked(t, line)
		}
	}}
	_, err = benchmark.Run(ctx, job, runner.NewOutput(out))
	out.flush()
	if err != nil {
		return nil, err
	}
	return resultData(metrics, t), nil
}

// pause waits for d on the clock of the simulation.
func pause(ctx context.Context, cfg simulated.Config, d time.Duration) error {
	if d > 0 && cfg.Sleep != nil {
		return cfg.Sleep(ctx, d)
	}
	return base.Wait(ctx, d)
}

// resultData returns metrics.json as result data, or nil if it is missing or
// invalid. Like the real server, it names the model by the last part of its path
// and sets a fingerprint with the test agent's id.
func resultData(metrics []byte, t *testRow) object {
	v, err := parse(metrics)
	data, isObject := v.(object)
	if err != nil || !isObject {
		return nil
	}
	data["model"] = lastPart(t.model)
	if info, isObject := data["system_info"].(object); isObject {
		info["fingerprint"] = "test-agent-" + t.agent.id
	}
	return data
}

func lastPart(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// A lineWriter calls write for each line of a benchmark's output. If a line has
// carriage returns, it passes on only what follows the last one.
type lineWriter struct {
	write   func(line string)
	partial strings.Builder
}

func (l *lineWriter) Write(p []byte) (int, error) {
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

// end ends the line.
func (l *lineWriter) end() {
	line := strings.TrimRight(l.partial.String(), "\r")
	l.partial.Reset()
	l.write(strings.ToValidUTF8(line[strings.LastIndexByte(line, '\r')+1:], "\uFFFD"))
}

func (l *lineWriter) flush() {
	if l.partial.Len() > 0 {
		l.end()
	}
}
