package kittapitest

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Launch queues a benchmark of the model at model for the agent with the given
// id or name, and returns the ids of the test and of its command. Options change
// the test before it is queued.
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
		return fmt.Errorf("agent %q has not registered: %w", name, err)
	}
	return nil
}

// WaitForStatus returns once a test has the given status. If ctx ends before
// that, the error says what became of the test, with its log.
func (s *Server) WaitForStatus(ctx context.Context, testID, status string) error {
	return s.waitFor(ctx, testID, status, func(now string) bool { return now == status })
}

// WaitForEnd returns once a test is completed or failed.
func (s *Server) WaitForEnd(ctx context.Context, testID string) error {
	return s.waitFor(ctx, testID, "ended", func(now string) bool { return now == "completed" || now == "failed" })
}

func (s *Server) waitFor(ctx context.Context, testID, want string, done func(status string) bool) error {
	if _, ok := s.Test(testID); !ok {
		return fmt.Errorf("there is no test %q", testID)
	}
	err := s.Wait(ctx, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.tests[testID] != nil && done(s.tests[testID].status)
	})
	if err == nil {
		return nil
	}
	t, _ := s.Test(testID)
	return fmt.Errorf("test %s is %s, not %s (%s; so far %s): %w; its log:\n%s", testID, t.Status, want, t.Error,
		strings.Join(t.History, ", "), err, strings.Join(s.Lines(testID), "\n"))
}
