package kittapitest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Launch queues a benchmark of model, a path, for the agent with the given id or
// name, and returns the ids of the test and of its command. Options change the test
// before it is queued. It returns an error if there is no such agent. The agent gets
// the command with its next heartbeat, which can take 30 s. To avoid this, add the
// agent with [Server.AddAgent] and launch before it runs.
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

// AddAgent creates the record of an agent that has not registered, so that tests can
// be launched for it, and returns its id. If the agent exists it returns its id.
func (s *Server) AddAgent(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.names[name]; a != nil {
		return a.id
	}
	return s.addUnregisteredLocked(name).id
}

// SetStatus sets a test's status, like an operator on the server's pages. It does
// nothing if there is no such test.
func (s *Server) SetStatus(testID, status, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tests[testID]; t != nil {
		s.setStatusLocked(t, status, reason)
	}
}

// Restore returns a test to a status that it had before, with the first rows of its log
// and without its result, as if the server were restored from a backup. A test that is
// queued is offered again. It does nothing if there is no such test.
func (s *Server) Restore(testID, status string, rows int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tests[testID]
	if t == nil {
		return
	}
	if i := slices.Index(t.history, status); i >= 0 {
		t.history = t.history[:i+1]
	}
	t.status, t.reason, t.ended = status, "", ""
	t.log = t.log[:min(rows, len(t.log))]
	s.reports = slices.DeleteFunc(s.reports, func(r Report) bool {
		if r.CommandID == t.command_ {
			s.deleteResultLocked(r.result)
		}
		return r.CommandID == t.command_
	})
	if status == "queued" && !slices.Contains(t.agent.queue, t) {
		t.agent.enqueue(t)
	}
	s.wakeLocked()
}

// SetSetting sets a setting of the agent with the given id or name, which its next
// heartbeat receives. It does nothing if there is no such agent or setting.
func (s *Server) SetSetting(agent, name, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.findAgentLocked(agent); a != nil && slices.Contains(settingNames, name) {
		a.settings[name] = value
	}
}

// RotateToken sets a new token for the agent with the given id or name and returns
// it. It returns an empty string if there is no such agent.
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

// Forget removes everything that the server has stored, as if its database were new.
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

// Wait returns nil when ok returns true. It calls ok at the start and after each
// request; ok may call the server's methods. If ctx is done first, Wait returns
// ctx.Err().
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

// WaitForAgent returns nil when an agent of that name has registered. If ctx is done
// first, the error matches ctx.Err() and lists the known agents.
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

// ErrEnded is matched by the error of a wait that cannot succeed any more, because
// the test has ended.
var ErrEnded = errors.New("the test has ended")

// WaitForStatus returns nil when a test has or had the given status. Otherwise the
// error describes the test, with its log. It matches ctx.Err() if ctx is done first,
// or [ErrEnded] if the test ended without that status.
func (s *Server) WaitForStatus(ctx context.Context, testID, status string) error {
	return s.waitFor(ctx, testID, status, func(t *testRow) bool { return slices.Contains(t.history, status) })
}

// WaitForEnd returns nil when a test is completed or failed. Its errors are those of
// [Server.WaitForStatus].
func (s *Server) WaitForEnd(ctx context.Context, testID string) error {
	return s.waitFor(ctx, testID, "ended", (*testRow).isOver)
}

// WaitForLine returns nil when a row of a test's log contains text. Its errors are
// those of [Server.WaitForStatus].
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

// WaitForReport returns the result of a test when it has been delivered. Its errors
// are those of [Server.WaitForStatus], except that it also waits after the test has
// ended.
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

// waitFor waits until done, which is called with the server's lock, returns true or
// the test ends.
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

// waitUntil waits until done, which is called with the server's lock, returns true.
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
	return s.waitError(testID, want, err)
}

var errNoTest = errors.New("no such test")

// waitError returns the error of a wait, with the state and the log of the test.
func (s *Server) waitError(testID, want string, err error) error {
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
