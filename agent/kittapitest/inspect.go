package kittapitest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Launch queues a benchmark of the model at model for the agent with the given
// id or name, and returns the ids of the test and of its command. Options change
// the test before it is queued.
func (s *Server) Launch(agent, model string, options ...func(*Test)) (testID, commandID string, err error) {
	t := Test{Model: model, Engine: "vllm", Benchmark: "throughput", Suite: "quick", Mode: "docker"}
	for _, o := range options {
		o(&t)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.findLocked(agent)
	if a == nil {
		return "", "", fmt.Errorf("there is no agent %q", agent)
	}
	row := &testRow{
		ID: t.ID, CommandID: t.CommandID, Model: t.Model, Engine: t.Engine, Benchmark: t.Benchmark,
		Suite: t.Suite, Mode: t.Mode, CreatedAt: localTime(s.now()),
	}
	s.addTestLocked(a, row)
	return row.ID, row.CommandID, nil
}

// AddAgent makes the record of an agent that has yet to register, so that tests
// can be launched for it, and returns its id.
func (s *Server) AddAgent(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.names[name]; a != nil {
		return a.ID
	}
	a := s.addAgentLocked(name)
	a.Status = "provisioned"
	return a.ID
}

// Test is what a server knows about a test.
type Test struct {
	ID, CommandID, Agent                  string
	Model, Engine, Benchmark, Suite, Mode string
	Status, Error                         string
	History                               []string // all statuses that it has had, in order
}

func (t *testRow) info() Test {
	reason, _ := t.Error.(string)
	return Test{
		ID: t.ID, CommandID: t.CommandID, Agent: t.AgentName, Model: t.Model, Engine: t.Engine,
		Benchmark: t.Benchmark, Suite: t.Suite, Mode: t.Mode,
		Status: t.Status, Error: reason, History: slices.Clone(t.history),
	}
}

// Test returns the test with the given id, and whether there is one.
func (s *Server) Test(id string) (Test, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tests[id]
	if t == nil {
		return Test{}, false
	}
	return t.info(), true
}

// Tests returns all tests, in the order in which they were queued.
func (s *Server) Tests() []Test {
	s.mu.Lock()
	defer s.mu.Unlock()
	tests := make([]Test, len(s.list))
	for i, t := range s.list {
		tests[i] = t.info()
	}
	return tests
}

// Rows returns the rows of a test's log: what each request carried.
func (s *Server) Rows(testID string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tests[testID]
	if t == nil {
		return nil
	}
	rows := make([]string, len(t.rows))
	for i, r := range t.rows {
		rows[i] = r.line
	}
	return rows
}

// Lines returns the lines of a test's log: its rows, parted at newlines.
func (s *Server) Lines(testID string) []string {
	rows := s.Rows(testID)
	if len(rows) == 0 {
		return nil
	}
	return strings.Split(strings.Join(rows, "\n"), "\n")
}

// Results returns the data of all results, in the order of their arrival.
func (s *Server) Results() []map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.results)
}

// Agents returns all agents, in the order of their registration.
func (s *Server) Agents() []AgentInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	agents := make([]AgentInfo, len(s.order))
	for i, a := range s.order {
		agents[i] = AgentInfo{a.ID, a.Name, a.Hostname, a.Status, a.lastBeat, maps.Clone(a.fields)}
	}
	return agents
}

// Beats returns how many heartbeats the agent with the given id or name sent.
func (s *Server) Beats(agent string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.findLocked(agent); a != nil {
		return s.beats[a.ID]
	}
	return 0
}

// Requests returns how often each call was made, by its method and path, such
// as "POST /api/v1/quicktest/{id}/logs".
func (s *Server) Requests() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.requests)
}

// SetStatus sets a test's status, as somebody on the server's pages does.
func (s *Server) SetStatus(testID, status, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tests[testID]; t != nil {
		s.setStatusLocked(t, status, reason)
	}
}

// SetSetting makes value the server's choice for a setting of the agent with the
// given id or name.
func (s *Server) SetSetting(agent, name, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.findLocked(agent); a != nil {
		a.settings[name] = value
	}
}

// RotateToken gives an agent a fresh token and returns it.
func (s *Server) RotateToken(agent string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.findLocked(agent)
	if a == nil {
		return ""
	}
	a.token = randomHex(32)
	return a.token
}

// WaitForAgent returns once an agent of that name has registered.
func (s *Server) WaitForAgent(ctx context.Context, name string) error {
	if err := s.wait(ctx, func() bool { return s.names[name] != nil }); err != nil {
		return fmt.Errorf("agent %q has not registered: %w", name, err)
	}
	return nil
}

// WaitForStatus returns once a test has the given status. If ctx ends before
// that, the error says what became of the test, with its log.
func (s *Server) WaitForStatus(ctx context.Context, testID, status string) error {
	return s.waitForTest(ctx, testID, status, func(now string) bool { return now == status })
}

// WaitForEnd returns once a test is completed or failed.
func (s *Server) WaitForEnd(ctx context.Context, testID string) error {
	return s.waitForTest(ctx, testID, "ended", func(now string) bool { return now == "completed" || now == "failed" })
}

func (s *Server) waitForTest(ctx context.Context, testID, want string, ok func(string) bool) error {
	err := s.wait(ctx, func() bool {
		t := s.tests[testID]
		return t != nil && ok(t.Status)
	})
	if err == nil {
		return nil
	}
	t, known := s.Test(testID)
	if !known {
		return fmt.Errorf("there is no test %q: %w", testID, err)
	}
	return fmt.Errorf("test %s is %s, not %s (%s; so far %s): %w; its log:\n%s", testID, t.Status, want, t.Error,
		strings.Join(t.History, ", "), err, strings.Join(s.Lines(testID), "\n"))
}
