// Package agenttest has a server for agents in memory, for tests of an agent. It needs
// no HTTP and no network, so it works inside a testing/synctest bubble, where hours
// pass in an instant.
//
// Package agent/kittapitest has a server that implements the KITT protocol over HTTP.
package agenttest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/heartbeat"
)

// A Server is an [agent.Server], [reporter.Reporter], [reporter.Inquirer],
// [reporter.TestFinder] and [reporter.Checker] that keeps everything in memory. Its
// zero value is ready. Its methods are safe for concurrent use; set its fields before
// an agent uses it.
type Server struct {
	// Fault, if set, is called before each request with its kind: "register",
	// "heartbeat", "sighting", "status", "log", "result" or "ask". If it returns an error, the
	// request is not handled and the agent gets that error.
	Fault func(kind string) error

	// LoseAnswer, if set, is called after each handled request. If it returns an
	// error, the agent gets that error instead of the answer.
	LoseAnswer func(kind string) error

	// Check, if set, implements CheckResult. By default, CheckResult returns its
	// argument.
	Check func(data map[string]any) (map[string]any, []string)

	mu       sync.Mutex        // guards the fields below
	agents   map[string]string // name by id
	tests    []*test
	results  []reporter.Result
	beats    []heartbeat.Beat
	regs     []agent.Registration
	settings map[string]string
	down     bool
	heard    map[string]time.Time // of the latest heartbeat or registration, by name
	changed  chan struct{}
}

// test is a test that was launched on the server.
type test struct {
	cmd     heartbeat.Command
	created time.Time
	status  string
	reason  string
	history []string
	rows    []string
}

var (
	_ agent.Server        = (*Server)(nil)
	_ reporter.Reporter   = (*Server)(nil)
	_ reporter.Inquirer   = (*Server)(nil)
	_ reporter.TestFinder = (*Server)(nil)
	_ reporter.Checker    = (*Server)(nil)

	_ agent.HeartbeatReader = (*Server)(nil)
)

// Launch queues a benchmark of the model with the given path and returns the id of
// its test. The agent gets it with its next heartbeat, which can take 30 s: outside of
// a synctest bubble, launch before the agent runs, or use Agent.Submit.
func (s *Server) Launch(model string) string {
	payload, err := json.Marshal(map[string]string{
		"model_path": model, "engine_name": "vllm", "suite_name": "quick", "benchmark_name": "throughput",
	})
	if err != nil {
		panic(err) // not reached: strings can be encoded
	}
	return s.Queue(heartbeat.Command{Type: agent.TypeRunTest, Payload: payload})
}

// Queue queues a command and returns the id of its test. It sets the ids that the
// command lacks.
func (s *Server) Queue(cmd heartbeat.Command) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.tests) + 1
	if cmd.ID == "" {
		cmd.ID = fmt.Sprintf("c%015d", n)
	}
	if cmd.TestID == "" {
		cmd.TestID = fmt.Sprintf("t%015d", n)
	}
	s.tests = append(s.tests, &test{cmd: cmd, created: time.Now(), status: "queued", history: []string{"queued"}})
	s.wakeLocked()
	return cmd.TestID
}

// Set sets a setting, which each later heartbeat's answer contains.
func (s *Server) Set(name, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.settings == nil {
		s.settings = map[string]string{}
	}
	s.settings[name] = value
}

// Fail sets a test's status to failed, like an operator who stops it. It does nothing
// if there is no such test.
func (s *Server) Fail(testID, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.findLocked(testID); t != nil {
		t.set(statusFailed, reason)
		s.wakeLocked()
	}
}

const statusFailed = "failed"

// Status returns a test's status and its reason, or empty strings if there is no such
// test.
func (s *Server) Status(testID string) (status, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.findLocked(testID); t != nil {
		return t.status, t.reason
	}
	return "", ""
}

// History returns all statuses of a test so far, in order.
func (s *Server) History(testID string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.findLocked(testID); t != nil {
		return slices.Clone(t.history)
	}
	return nil
}

// Rows returns the rows of a test's log, one for each request.
func (s *Server) Rows(testID string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.findLocked(testID); t != nil {
		return slices.Clone(t.rows)
	}
	return nil
}

// Lines returns the lines of a test's log.
func (s *Server) Lines(testID string) []string {
	rows := s.Rows(testID)
	if len(rows) == 0 {
		return nil
	}
	return strings.Split(strings.Join(rows, "\n"), "\n")
}

// Results returns the delivered results, in order of arrival.
func (s *Server) Results() []reporter.Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.results)
}

// Beats returns the heartbeats, in order of arrival.
func (s *Server) Beats() []heartbeat.Beat {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.beats)
}

// Registrations returns the registrations, in order of arrival.
func (s *Server) Registrations() []agent.Registration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.regs)
}

// Wait returns nil when a test has the given status. If ctx is done first, the error
// matches ctx.Err() and has the test's status and log.
func (s *Server) Wait(ctx context.Context, testID, status string) error {
	return s.WaitFor(ctx, testID, func(now string) bool { return now == status })
}

// WaitEnded returns nil when a test is completed or failed. Its error is that of
// [Server.Wait].
func (s *Server) WaitEnded(ctx context.Context, testID string) error {
	return s.WaitFor(ctx, testID, func(now string) bool { return now == "completed" || now == statusFailed })
}

// WaitFor returns nil when ok returns true for a test's status. Its error is that of
// [Server.Wait].
func (s *Server) WaitFor(ctx context.Context, testID string, ok func(status string) bool) error {
	for {
		s.mu.Lock()
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		changed := s.changed
		s.mu.Unlock()
		status, reason := s.Status(testID)
		if ok(status) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("test %s is %q (%s): %w; its log:\n%s",
				testID, status, reason, ctx.Err(), strings.Join(s.Lines(testID), "\n"))
		}
	}
}

// Restore puts a test back to a status that it had before, with as many rows of its log
// and no result, as if the server were restored from a backup. It does nothing if there
// is no such test.
func (s *Server) Restore(testID, status string, rows int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.findLocked(testID)
	if t == nil {
		return
	}
	t.set(status, "")
	t.rows = t.rows[:min(rows, len(t.rows))]
	s.results = slices.DeleteFunc(s.results, func(r reporter.Result) bool { return r.CommandID == t.cmd.ID })
	s.wakeLocked()
}

// SetDown makes all requests fail with ErrDown, or ends that.
func (s *Server) SetDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// Forget removes all agents, as if the server's database were new.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.agents = nil
}

// do handles a request, with its faults.
func (s *Server) do(ctx context.Context, kind string, request func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.Fault != nil {
		if err := s.Fault(kind); err != nil {
			return err
		}
	}
	s.mu.Lock()
	if s.down {
		s.mu.Unlock()
		return ErrDown
	}
	err := request()
	s.wakeLocked()
	s.mu.Unlock()
	if err == nil && s.LoseAnswer != nil {
		err = s.LoseAnswer(kind)
	}
	return err
}

func (s *Server) wakeLocked() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

func (s *Server) findLocked(testID string) *test {
	for _, t := range s.tests {
		if t.cmd.TestID == testID {
			return t
		}
	}
	return nil
}

// set sets the test's status. Like the real server, it keeps the reason of an
// earlier end when the test is set running.
func (t *test) set(status, reason string) {
	t.status = status
	if ended(status) {
		t.reason = reason
	}
	t.history = append(t.history, status)
}

func ended(status string) bool { return reporter.Status(status).Ended() }

// Register registers an agent.
func (s *Server) Register(ctx context.Context, reg agent.Registration) (agent.Registered, error) {
	answer := agent.Registered{AgentID: "id-of-" + reg.Name, Interval: heartbeat.DefaultInterval}
	err := s.do(ctx, "register", func() error {
		if s.agents == nil {
			s.agents = map[string]string{}
		}
		s.agents[answer.AgentID] = reg.Name
		s.regs = append(s.regs, reg)
		s.heardLocked(reg.Name)
		return nil
	})
	if err != nil {
		return agent.Registered{}, err
	}
	return answer, nil
}

// Heartbeat returns the oldest queued command and the settings.
func (s *Server) Heartbeat(ctx context.Context, id string, beat heartbeat.Beat) (heartbeat.Answer, error) {
	var answer heartbeat.Answer
	err := s.do(ctx, "heartbeat", func() error {
		if s.agents[id] == "" {
			return heartbeat.ErrUnknownAgent
		}
		s.beats = append(s.beats, beat)
		s.heardLocked(s.agents[id])
		answer = heartbeat.Answer{AgentID: id, Settings: map[string]string{}}
		for name, value := range s.settings {
			answer.Settings[name] = value
		}
		for _, t := range s.tests {
			if t.status == "queued" {
				t.set("dispatched", "")
				answer.Commands = []heartbeat.Command{t.cmd}
				break
			}
		}
		return nil
	})
	if err != nil {
		return heartbeat.Answer{}, err
	}
	return answer, nil
}

func (s *Server) heardLocked(name string) {
	if s.heard == nil {
		s.heard = map[string]time.Time{}
	}
	s.heard[name] = time.Now()
}

// LastHeartbeat returns when an agent with that name last registered or sent a
// heartbeat.
func (s *Server) LastHeartbeat(ctx context.Context, _, name string) (agent.Sighting, error) {
	var sighting agent.Sighting
	err := s.do(ctx, "sighting", func() error {
		if s.heard[name].IsZero() {
			return heartbeat.ErrUnknownAgent
		}
		sighting = agent.Sighting{At: s.heard[name], Offline: time.Since(s.heard[name]) > heartbeat.OfflineAfter}
		return nil
	})
	return sighting, err
}

// errNoTest returns the error for an unknown test.
func errNoTest() error { return &reporter.RejectedError{Code: 404, Message: "Quick test not found"} }

// ReportStatus sets a test's status.
func (s *Server) ReportStatus(ctx context.Context, testID string, status reporter.Status, reason string) error {
	return s.do(ctx, "status", func() error {
		t := s.findLocked(testID)
		if t == nil {
			return errNoTest()
		}
		t.set(string(status), reason)
		return nil
	})
}

// ReportLog appends a row to a test's log.
func (s *Server) ReportLog(ctx context.Context, testID, text string) error {
	return s.do(ctx, "log", func() error {
		t := s.findLocked(testID)
		if t == nil {
			return errNoTest()
		}
		t.rows = append(t.rows, text)
		return nil
	})
}

// ReportResult stores a result.
func (s *Server) ReportResult(ctx context.Context, _ string, result reporter.Result) error {
	return s.do(ctx, "result", func() error {
		s.results = append(s.results, result)
		return nil
	})
}

// CheckResult calls s.Check if it is set, and returns data otherwise.
func (s *Server) CheckResult(data map[string]any) (map[string]any, []string) {
	if s.Check == nil {
		return data, nil
	}
	return s.Check(data)
}

// Test returns the record of a test.
func (s *Server) Test(ctx context.Context, testID string) (reporter.Test, error) {
	var answer reporter.Test
	err := s.do(ctx, "ask", func() error {
		t := s.findLocked(testID)
		if t == nil {
			return errNoTest()
		}
		answer = reporter.Test{
			ID: testID, CommandID: t.cmd.ID, Status: reporter.Status(t.status), Error: t.reason,
			Reopened: t.status == string(reporter.Running) && slices.ContainsFunc(t.history, ended),
		}
		return nil
	})
	return answer, err
}

// LogRows returns the rows of a test's log.
func (s *Server) LogRows(ctx context.Context, testID string) ([]string, error) {
	var rows []string
	err := s.do(ctx, "ask", func() error {
		t := s.findLocked(testID)
		if t == nil {
			return errNoTest()
		}
		rows = slices.Clone(t.rows)
		return nil
	})
	return rows, err
}

// HasResult reports whether a result with this model, engine and timestamp was
// delivered.
func (s *Server) HasResult(ctx context.Context, model, engine, timestamp string) (bool, error) {
	var has bool
	err := s.do(ctx, "ask", func() error {
		has = slices.ContainsFunc(s.results, func(r reporter.Result) bool {
			return r.Data["model"] == model && r.Data["engine"] == engine && r.Data["timestamp"] == timestamp
		})
		return nil
	})
	return has, err
}

// Dispatched returns the commands that were sent and have no status from the agent.
func (s *Server) Dispatched(ctx context.Context, _ string) ([]reporter.DispatchedCommand, error) {
	var commands []reporter.DispatchedCommand
	err := s.do(ctx, "ask", func() error {
		for _, t := range s.tests {
			if t.status == "dispatched" {
				commands = append(commands, reporter.DispatchedCommand{Command: t.cmd, CreatedAt: t.created})
			}
		}
		return nil
	})
	return commands, err
}

// FindTest returns the id of the test of a command, or an empty string if no
// dispatched or running test has that command.
func (s *Server) FindTest(ctx context.Context, _, commandID string) (string, error) {
	var id string
	err := s.do(ctx, "ask", func() error {
		for _, t := range s.tests {
			if t.cmd.ID == commandID && (t.status == "dispatched" || t.status == "running") {
				id = t.cmd.TestID
			}
		}
		return nil
	})
	return id, err
}

// ErrDown is an error for Fault: the server cannot be reached.
var ErrDown = errors.New("connection refused")
