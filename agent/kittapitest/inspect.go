package kittapitest

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// AgentInfo is what a server knows about an agent.
type AgentInfo struct {
	ID, Name, Hostname string
	Status             string // online, provisioned, offline or the status of the last heartbeat
	LastHeartbeat      time.Time
	Fields             map[string]any // the registration, with the server's defaults
	Settings           map[string]string
	Test               bool // whether it has the tag of the server's own test agents
}

// A Beat is a heartbeat that the server received. Fields that were not sent have the
// server's defaults; Body is what was sent.
type Beat struct {
	Time    time.Time
	AgentID string
	Status  string
	Task    string
	Engines []any
	Body    map[string]any
}

// Test is what a server knows about a test, or about another command.
type Test struct {
	ID, CommandID                         string
	Agent, AgentID                        string // name and id
	Model, Engine, Benchmark, Suite, Mode string
	Profile                               string
	Status, Error                         string
	CreatedAt, StartedAt, CompletedAt     string
	History                               []string // all statuses so far, in order
}

// A Report is a result that an agent delivered, with or without data.
type Report struct {
	Time                                           time.Time
	AgentID, CommandID, Status, ContainerID, Error string
	Data                                           map[string]any // nil if there was none

	result string // id of what the server stored of it
}

// A Request is a request that the server received.
type Request struct {
	Time    time.Time
	Method  string
	Path    string // decoded
	Query   string
	Header  http.Header
	Body    string // its first 4 KiB
	Size    int64  // of the whole body
	Status  int    // of the answer; 0 if there was none
	Handled bool   // whether it was handled, even if the answer was lost
}

// ring keeps the latest requests.
type ring struct {
	max  int
	list []Request
	at   int // index of the oldest one, once full
}

func (r *ring) add(req Request) {
	if len(r.list) < r.max {
		r.list = append(r.list, req)
		return
	}
	r.list[r.at] = req
	r.at = (r.at + 1) % r.max
}

func (r *ring) all() []Request {
	return append(slices.Clone(r.list[r.at:]), r.list[:r.at]...)
}

func newBeat(now time.Time, a *agentRow, beat, body object) Beat {
	return Beat{
		Time: now, AgentID: a.id, Status: a.status, Task: beat["current_task"].(string),
		Engines: plain(beat["engines"]).([]any), Body: plain(body).(map[string]any),
	}
}

func (a *agentRow) addBeat(b Beat) {
	a.beatsHad++
	if len(a.beats) == keepBeats {
		a.beats = slices.Delete(a.beats, 0, 1)
	}
	a.beats = append(a.beats, b)
}

func newReport(now time.Time, a *agentRow, in object) Report {
	text := func(key string) string {
		s, _ := column(in.or(key, "")).(string)
		return s
	}
	r := Report{
		Time: now, AgentID: a.id, CommandID: text("command_id"), Status: text("status"),
		ContainerID: text("container_id"), Error: text("error"),
	}
	if data, ok := in["result_data"].(object); ok && len(data) > 0 {
		r.Data = plain(data).(map[string]any)
	}
	return r
}

// breachLocked records a request that would have broken the real server.
func (s *Server) breachLocked(format string, args ...any) {
	s.breaches = append(s.breaches, fmt.Sprintf(format, args...))
}

// Breaches describes each request on which the real server would have failed with
// its database locked, which can make it unusable for every agent. This server also
// answers with 500, but continues to work.
func (s *Server) Breaches() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.breaches)
}

// Agents returns all agents, sorted by name.
func (s *Server) Agents() []AgentInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	agents := make([]AgentInfo, 0, len(s.agents))
	for _, a := range s.agents {
		agents = append(agents, s.infoLocked(a))
	}
	slices.SortFunc(agents, func(a, b AgentInfo) int { return strings.Compare(a.Name, b.Name) })
	return agents
}

func (s *Server) infoLocked(a *agentRow) AgentInfo {
	s.checkStaleLocked(a)
	return AgentInfo{
		ID: a.id, Name: a.name(), Hostname: str(a.facts["hostname"]), Status: a.status, LastHeartbeat: a.beatAt,
		Fields: plain(a.facts).(map[string]any), Settings: maps.Clone(a.settings),
		Test: a.isTest(),
	}
}

// Agent returns the agent with the given id or name, and whether there is one.
func (s *Server) Agent(agent string) (AgentInfo, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.findAgentLocked(agent)
	if a == nil {
		return AgentInfo{}, false
	}
	return s.infoLocked(a), true
}

// Beats returns the number of heartbeats of the agent with the given id or name.
func (s *Server) Beats(agent string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.findAgentLocked(agent); a != nil {
		return a.beatsHad
	}
	return 0
}

// Heartbeats returns the latest heartbeats of the agent with the given id or
// name, up to 256.
func (s *Server) Heartbeats(agent string) []Beat {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.findAgentLocked(agent); a != nil {
		return slices.Clone(a.beats)
	}
	return nil
}

func (s *Server) findAgentLocked(agent string) *agentRow {
	if a := s.agents[agent]; a != nil {
		return a
	}
	return s.names[agent]
}

func (t *testRow) public() Test {
	reason, _ := t.reason.(string)
	return Test{
		ID: t.id, CommandID: t.command_, Agent: t.agent.name(), AgentID: t.agent.id,
		Model: t.model, Engine: t.engine, Benchmark: t.benchmark, Suite: t.suite, Mode: t.mode, Profile: t.profile,
		Status: t.status, Error: reason, CreatedAt: t.created, StartedAt: t.started, CompletedAt: t.ended,
		History: slices.Clone(t.history),
	}
}

// Tests returns all tests and other commands, in order of creation.
func (s *Server) Tests() []Test {
	s.mu.Lock()
	defer s.mu.Unlock()
	tests := make([]Test, len(s.order))
	for i, t := range s.order {
		tests[i] = t.public()
	}
	return tests
}

// Test returns the test with the given id, and whether there is one.
func (s *Server) Test(testID string) (Test, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tests[testID]
	if t == nil {
		return Test{}, false
	}
	return t.public(), true
}

// Rows returns the rows of a test's log, one for each request. A row can have several
// lines.
func (s *Server) Rows(testID string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tests[testID]
	if t == nil {
		return nil
	}
	rows := make([]string, len(t.log))
	for i, row := range t.log {
		rows[i], _ = row.line.(string)
	}
	return rows
}

// Lines returns the lines of a test's log.
func (s *Server) Lines(testID string) []string {
	rows := s.Rows(testID)
	if len(rows) == 0 {
		return nil
	}
	return strings.Split(strings.Join(rows, "\n"), "\n")
}

// Results returns the stored results, in order of arrival, each with its id.
func (s *Server) Results() []map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	results := make([]map[string]any, len(s.results))
	for i, r := range s.results {
		results[i] = plain(r.row()).(map[string]any)
	}
	return results
}

// Reports returns the delivered results, also those without data, in order of
// arrival.
func (s *Server) Reports() []Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.reports)
}

// Requests returns the number of handled requests by method and path, such as
// "POST /api/v1/quicktest/{id}/logs". It does not count requests that a fault kept
// from being handled.
func (s *Server) Requests() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.calls)
}

// RequestLog returns the latest requests, up to Config.KeepRequests, in the order in
// which they ended. An event stream is added when it ends.
func (s *Server) RequestLog() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.record.all()
}
