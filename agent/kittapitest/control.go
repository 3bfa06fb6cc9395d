package kittapitest

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// A Launch is a quick test to be queued. Empty fields get the server's defaults.
type Launch struct {
	Agent     string // id or name
	Model     string
	Engine    string // defaults to vllm
	Benchmark string // defaults to throughput
	Suite     string // defaults to quick
	Mode      string // defaults to docker
	Profile   string
}

// Launch queues a quick test and returns the id of its record.
func (s *Server) Launch(l Launch) (testID string, err error) {
	orDefault := func(v, fallback string) string {
		if v == "" {
			return fallback
		}
		return v
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.findAgentLocked(l.Agent)
	if a == nil {
		return "", fmt.Errorf("kittapitest: no agent %q", l.Agent)
	}
	t := s.launchLocked(a, &testRow{
		model: l.Model, engine: orDefault(l.Engine, "vllm"), benchmark: orDefault(l.Benchmark, "throughput"),
		suite: orDefault(l.Suite, "quick"), mode: orDefault(l.Mode, "docker"), profile: l.Profile,
	})
	return t.id, nil
}

// Fail sets a test's status to failed, as somebody does who stops it.
func (s *Server) Fail(testID, reason string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tests[testID]
	if t == nil {
		return fmt.Errorf("kittapitest: no test %q", testID)
	}
	s.setStatusLocked(t, "failed", reason)
	return nil
}

// Set makes value an agent's setting, by the names of the protocol.
func (s *Server) Set(agent, name, value string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.findAgentLocked(agent)
	switch {
	case a == nil:
		return fmt.Errorf("kittapitest: no agent %q", agent)
	case !slices.Contains(settingNames, name):
		return fmt.Errorf("kittapitest: no setting %q", name)
	}
	a.settings[name] = value
	return nil
}

// Forget makes the server forget everything, as one with a new database.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
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

// WaitForAgent returns the agent with the given name once it is registered.
func (s *Server) WaitForAgent(ctx context.Context, name string) (Agent, error) {
	err := s.Wait(ctx, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.names[name] != nil
	})
	if err != nil {
		return Agent{}, fmt.Errorf("agent %q is not registered: %w", name, err)
	}
	a, _ := s.Agent(name)
	return a, nil
}

// WaitForStatus returns once a test has the given status. If ctx ends before
// that, the error says what became of the test, with its log.
func (s *Server) WaitForStatus(ctx context.Context, testID, status string) error {
	return s.waitFor(ctx, testID, func(now string) bool { return now == status })
}

// WaitForEnd returns once a test is completed or failed, and which.
func (s *Server) WaitForEnd(ctx context.Context, testID string) (Test, error) {
	err := s.waitFor(ctx, testID, func(now string) bool { return now == "completed" || now == "failed" })
	t, _ := s.Test(testID)
	return t, err
}

func (s *Server) waitFor(ctx context.Context, testID string, done func(status string) bool) error {
	if _, ok := s.Test(testID); !ok {
		return fmt.Errorf("kittapitest: no test %q", testID)
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
	reason := ""
	if t.Error != "" {
		reason = " (" + t.Error + ")"
	}
	return fmt.Errorf("test %s is %q%s: %w; its log:\n%s", testID, t.Status, reason, err, strings.Join(s.Lines(testID), "\n"))
}
