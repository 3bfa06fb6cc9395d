package kittapitest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Launch queues a benchmark of the model at model for the agent with the given
// id or name, and returns the ids of the test and of its command. Options change
// the test before it is queued. The agent's next heartbeat takes it along, which
// may be 30 s away: launch before the agent runs, for an agent of AddAgent, where
// that is too long.
func (s *Server) Launch(agent, model string, options ...func(*Test)) (testID, commandID string, err error) {
	t := Test{Model: model, Engine: "vllm", Benchmark: "throughput", Suite: "quick", Mode: "docker"}
	for _, change := range options {
		change(&t)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.findAgentLocked(agent)
	if a == nil {
		return "", "", fmt.Errorf("there is no agent %q", agent)
	}
	row := s.launchLocked(a, &testRow{
		id: t.ID, command_: t.CommandID, model: t.Model, engine: t.Engine, benchmark: t.Benchmark,
		suite: t.Suite, mode: t.Mode, profile: t.Profile,
	})
	return row.id, row.command_, nil
}

// AddAgent makes the record of an agent that has yet to register, so that tests
// can be launched for it, and returns its id.
func (s *Server) AddAgent(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.names[name]; a != nil {
		return a.id
	}
	return s.addUnregisteredLocked(name).id
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
	if a := s.findAgentLocked(agent); a != nil && slices.Contains(settingNames, name) {
		a.settings[name] = value
	}
}

// RotateToken gives the agent with the given id or name a fresh token and
// returns it, an empty text if there is no such agent.
func (s *Server) RotateToken(agent string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.findAgentLocked(agent)
	if a == nil {
		return ""
	}
	token := randomHex(32)
	a.setToken(token)
	return token
}

// Forget makes the server forget everything, as one with a new database.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopPlaysLocked()
	clear(s.agents)
	clear(s.names)
	clear(s.tests)
	clear(s.byModel)
	clear(s.campaigns)
	s.order, s.results, s.reports = nil, nil, nil
	s.wakeLocked()
}

// Wait returns once ok, which may call the server's methods, is true. It looks
// after each request.
func (s *Server) Wait(ctx context.Context, ok func() bool) error {
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		if ok() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// WaitForAgent returns once an agent of that name has registered.
func (s *Server) WaitForAgent(ctx context.Context, name string) error {
	err := s.Wait(ctx, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		a := s.names[name]
		return a != nil && a.status != "provisioned"
	})
	if err != nil {
		var there []string
		for _, a := range s.Agents() {
			there = append(there, fmt.Sprintf("%s (%s)", a.Name, a.Status))
		}
		return fmt.Errorf("agent %q has not registered: %w; there are: %s", name, err, strings.Join(there, ", "))
	}
	return nil
}

// ErrEnded is matched by the error of a wait for what cannot come any more,
// because the test has ended otherwise.
var ErrEnded = errors.New("the test has ended")

// WaitForStatus returns once a test has the given status, or had it. Its error,
// if ctx ends before that, or the test does, says what became of the test, with
// its log; it matches ErrEnded in the latter case.
func (s *Server) WaitForStatus(ctx context.Context, testID, status string) error {
	return s.waitFor(ctx, testID, status, func(t *testRow) bool { return slices.Contains(t.history, status) })
}

// WaitForEnd returns once a test is completed or failed. Its error is as that of
// WaitForStatus.
func (s *Server) WaitForEnd(ctx context.Context, testID string) error {
	return s.waitFor(ctx, testID, "ended", (*testRow).isOver)
}

// WaitForLine returns once text occurs in a row of a test's log. Its error is as
// that of WaitForStatus.
func (s *Server) WaitForLine(ctx context.Context, testID, text string) error {
	seen := 0
	return s.waitFor(ctx, testID, fmt.Sprintf("at %q in its log", text), func(t *testRow) bool {
		for ; seen < len(t.log); seen++ {
			if line, _ := t.log[seen].line.(string); strings.Contains(line, text) {
				return true
			}
		}
		return false
	})
}

// WaitForReport returns the result of a test once it has been delivered. Its
// error is as that of WaitForStatus, but a result may come after the end.
func (s *Server) WaitForReport(ctx context.Context, testID string) (Report, error) {
	var found Report
	seen := 0
	err := s.waitUntil(ctx, testID, "with a result", func(t *testRow) (bool, error) {
		for ; seen < len(s.reports); seen++ {
			if s.reports[seen].CommandID == t.command_ {
				found = s.reports[seen]
				return true, nil
			}
		}
		return false, nil
	})
	return found, err
}

func (t *testRow) isOver() bool { return t.status == "completed" || t.status == "failed" }

// waitFor waits until done, which is called with the server's lock, for as long
// as the test goes on.
func (s *Server) waitFor(ctx context.Context, testID, want string, done func(*testRow) bool) error {
	return s.waitUntil(ctx, testID, want, func(t *testRow) (bool, error) {
		switch {
		case done(t):
			return true, nil
		case t.isOver():
			return true, ErrEnded
		}
		return false, nil
	})
}

// waitUntil waits until done, which is called with the server's lock, says so.
func (s *Server) waitUntil(ctx context.Context, testID, want string, done func(*testRow) (bool, error)) error {
	var fault error
	err := s.Wait(ctx, func() (yes bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		t := s.tests[testID]
		if t == nil {
			fault = errNoTest
			return true
		}
		yes, fault = done(t)
		return yes
	})
	if err == nil {
		err = fault
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errNoTest):
		return fmt.Errorf("there is no test %q", testID)
	}
	return s.story(testID, want, err)
}

var errNoTest = errors.New("no such test")

// story returns an error that tells what became of a test.
func (s *Server) story(testID, want string, err error) error {
	t, _ := s.Test(testID)
	reason := ""
	if t.Error != "" {
		reason = t.Error + "; "
	}
	var log strings.Builder
	for _, line := range s.Lines(testID) {
		log.WriteString("\n\t" + line)
	}
	if log.Len() == 0 {
		log.WriteString(" empty")
	}
	return fmt.Errorf("test %s of agent %q is %s, not %s (%sso far %s): %w; its log:%s",
		testID, t.Agent, t.Status, want, reason, strings.Join(t.History, ", "), err, log.String())
}
