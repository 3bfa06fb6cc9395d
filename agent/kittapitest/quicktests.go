package kittapitest

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// testRow is the server's record of a test, or of another command to an agent.
type testRow struct {
	id, command_            string
	agent                   *agentRow
	model, engine           string
	benchmark, suite        string
	mode, profile           string
	status                  string
	reason                  any // text or nil
	created, started, ended string
	history                 []string
	log                     []logRow

	stop context.CancelCauseFunc // stops the simulation of the test; nil without one
}

type logRow struct {
	line any // text
	at   time.Time
}

func (t *testRow) setStatus(status string) {
	t.status = status
	t.history = append(t.history, status)
}

// row returns the test in the form of the API.
func (t *testRow) row() object {
	return newObject(
		"id", t.id, "agent_id", t.agent.id, "command_id", t.command_,
		"model_path", t.model, "engine_name", t.engine, "benchmark_name", t.benchmark,
		"suite_name", t.suite, "engine_mode", t.mode, "profile_id", t.profile,
		"status", t.status, "error", t.reason, "result_id", nil,
		"created_at", t.created, "started_at", t.started, "completed_at", t.ended,
	)
}

// command returns the test in the form of a heartbeat's answer.
func (t *testRow) command() object {
	kind := "run_test"
	switch {
	case t.engine == "cleanup":
		kind = "cleanup_storage"
	case t.benchmark == "install_engine", t.benchmark == "start_engine", t.benchmark == "stop_engine":
		kind = t.benchmark
	}
	payload := newObject(
		"model_path", t.model, "engine_name", t.engine, "benchmark_name", t.benchmark,
		"suite_name", t.suite, "engine_mode", t.mode, "profile_id", t.profile,
	)
	if strings.HasSuffix(kind, "_engine") {
		var config any = newObject()
		if v, err := parse([]byte(t.profile)); err == nil {
			config = v
		}
		payload["runtime_config"] = config
	}
	return newObject("command_id", t.command_, "test_id", t.id, "type", kind, "payload", payload)
}

// addTestLocked creates the record of a test and queues it, or simulates it if its
// agent is a test agent.
func (s *Server) addTestLocked(t *testRow) {
	s.recordLocked(t)
	if t.agent.isTest() {
		s.playLocked(t)
	} else {
		t.agent.enqueue(t)
	}
	s.wakeLocked()
}

// recordLocked creates the record of a test or of another command.
func (s *Server) recordLocked(t *testRow) {
	t.reason = ""
	t.setStatus("queued")
	s.tests[t.id] = t
	s.order = append(s.order, t)
	t.agent.tests = append(t.agent.tests, t)
}

// enqueue queues a command. Commands are sent in the order of their created_at,
// compared as strings.
func (a *agentRow) enqueue(t *testRow) {
	at := sort.Search(len(a.queue), func(i int) bool { return a.queue[i].created > t.created })
	a.queue = slices.Insert(a.queue, at, t)
}

// launchLocked queues a quick test.
func (s *Server) launchLocked(a *agentRow, t *testRow) *testRow {
	if t.id == "" {
		t.id = newID()
	}
	if t.command_ == "" {
		t.command_ = newID()
	}
	t.agent, t.created = a, s.local()
	s.bus.publish("status", t.id, newObject("status", "queued", "test_id", t.id, "command_id", t.command_))
	s.addTestLocked(t)
	return t
}

func (c *call) launch() answer {
	in, fault := c.object("Invalid JSON body")
	if in == nil {
		return fault
	}
	for _, name := range []string{"agent_id", "model_path", "engine_name"} {
		if !in.has(name) {
			return refuse(http.StatusBadRequest, "'%s' is required", name)
		}
	}
	s := c.s
	id, _ := in["agent_id"].(string)
	a := s.agents[id]
	if a == nil {
		return refuse(http.StatusNotFound, "Agent not found")
	}
	t := &testRow{}
	for _, f := range []struct {
		to       *string
		name     string
		fallback string
	}{
		{&t.model, "model_path", ""}, {&t.engine, "engine_name", ""},
		{&t.benchmark, "benchmark_name", "throughput"}, {&t.suite, "suite_name", "quick"},
		{&t.mode, "engine_mode", "docker"}, {&t.profile, "profile_id", ""},
	} {
		v := in.or(f.name, f.fallback)
		text, isText := column(v).(string)
		if !isText || !bindable(v) {
			s.breachLocked("launch: %s is not a plain value", f.name)
			return page(http.StatusInternalServerError)
		}
		*f.to = text
	}
	s.launchLocked(a, t)
	return reply(http.StatusAccepted, newObject("id", t.id, "status", "queued", "command_id", t.command_))
}

// cleanup queues the command to remove model copies.
func (c *call) cleanup(a *agentRow) answer {
	body, _ := c.json.(object)
	model, _ := column(body["model_path"]).(string)
	if model == "" {
		model = "__cleanup__"
	}
	t := &testRow{model: model, engine: "cleanup", benchmark: "cleanup_storage", mode: "docker"}
	return reply(http.StatusAccepted, newObject("queued", true, "command_id", c.s.commandLocked(a, t)))
}

// engine queues the command to install, start or stop an engine.
func (c *call) engine() answer {
	body, _ := c.json.(object)
	if len(body) == 0 {
		return refuse(http.StatusBadRequest, "Invalid JSON body")
	}
	name, isText := body.or("engine_name", "").(string)
	if !isText {
		return page(http.StatusInternalServerError)
	}
	if name = strings.TrimSpace(name); name == "" {
		return refuse(http.StatusBadRequest, "engine_name is required")
	}
	a := c.s.agents[c.id]
	if a == nil {
		return refuse(http.StatusNotFound, "Agent not found")
	}
	t := &testRow{engine: name, benchmark: c.action + "_engine", mode: "native"}
	if c.action == "start" {
		t.model, _ = column(body.or("model_path", "")).(string)
		if config := body["runtime_config"]; truthy(config) {
			var raw struct {
				Config json.RawMessage `json:"runtime_config"` // with its order of keys
			}
			if json.Unmarshal(c.body, &raw) == nil {
				t.profile = dump(raw.Config)
			}
		}
	}
	return reply(http.StatusAccepted, newObject("command_id", c.s.commandLocked(a, t), "status", "queued"))
}

// commandLocked queues a command that is not a test, but has a record like one.
func (s *Server) commandLocked(a *agentRow, t *testRow) string {
	t.id = newID()
	t.command_, t.suite, t.agent, t.created = t.id, "quick", a, s.utc()
	s.recordLocked(t)
	a.enqueue(t)
	s.wakeLocked()
	return t.id
}

func (c *call) getTest(t *testRow) answer { return reply(http.StatusOK, t.row()) }

// number returns a number of the query, or fallback if there is none.
func (c *call) number(name string, fallback int) int {
	n, err := strconv.Atoi(c.r.URL.Query().Get(name))
	if err != nil {
		return fallback
	}
	return n
}

func (c *call) listTests() answer {
	query := c.r.URL.Query()
	status, name := query.Get("status"), query.Get("agent_name")
	perPage := max(min(c.number("per_page", 20), 100), 1)
	page := max(c.number("page", 1), 1)
	s := c.s
	tests := s.order
	if name != "" {
		tests = nil
		if a := s.names[name]; a != nil {
			tests = a.tests
		}
	}
	var found []*testRow
	for _, t := range tests {
		if status == "" || t.status == status {
			found = append(found, t)
		}
	}
	slices.SortStableFunc(found, func(a, b *testRow) int { return strings.Compare(b.created, a.created) })
	items := []any{}
	for _, t := range cutPage(found, page, perPage) {
		row := t.row()
		row["agent_name"] = t.agent.name()
		items = append(items, row)
	}
	o := pageOf(items, len(found), page, perPage)
	if len(found) == 0 {
		o["pages"] = num("1")
	}
	return reply(http.StatusOK, o)
}

// pageOf returns an answer with one page of total items.
func pageOf(items []any, total, page, perPage int) object {
	pages := 0
	if perPage > 0 {
		pages = (total + perPage - 1) / perPage
	}
	return newObject("items", items, "total", integer(total), "page", integer(page), "pages", integer(pages))
}

// cutPage returns one page of a list, counted from 1.
func cutPage[T any](list []T, page, perPage int) []T {
	if page > 1+len(list)/max(perPage, 1) {
		return nil
	}
	from := min((page-1)*perPage, len(list))
	return list[from:min(from+perPage, len(list))]
}

func (c *call) getLogs() answer {
	c.s.mu.Lock()
	t := c.s.tests[c.id]
	if t == nil {
		c.s.mu.Unlock()
		return refuse(http.StatusNotFound, "Quick test not found")
	}
	rows := t.log // append only, so it is read without the lock
	c.s.mu.Unlock()
	return logAnswer(rows)
}

func logAnswer(rows []logRow) answer {
	lines := make([]any, len(rows))
	for i, row := range rows {
		lines[i] = newObject("line", row.line, "created_at", row.at.UTC().Format(time.DateTime))
	}
	return ok("lines", lines)
}

func (c *call) postLog(t *testRow) answer {
	s := c.s
	in, fault := c.object("'line' is required")
	if in == nil {
		return fault
	}
	if !in.has("line") {
		return refuse(http.StatusBadRequest, "'line' is required")
	}
	line := in["line"]
	if line == nil || !bindable(line) {
		s.breachLocked("log of test %s: line is not a text that the database accepts", t.id)
		return page(http.StatusInternalServerError)
	}
	s.logLocked(t, line)
	return ok("ok", true)
}

// logLocked adds a row to a test's log.
func (s *Server) logLocked(t *testRow, line any) {
	t.log = append(t.log, logRow{column(line), s.now()})
	s.bus.publish("log", t.id, newObject("line", line, "test_id", t.id))
	s.wakeLocked()
}

func (c *call) postStatus(t *testRow) answer {
	s := c.s
	in, fault := c.object("'status' is required")
	if in == nil {
		return fault
	}
	if !in.has("status") {
		return refuse(http.StatusBadRequest, "'status' is required")
	}
	switch status := in["status"]; status {
	case "running", "completed", "failed":
		reason := in.or("error", "")
		if !bindable(reason) {
			s.breachLocked("status of test %s: error is not a text that the database accepts", t.id)
			return page(http.StatusInternalServerError)
		}
		s.setStatusLocked(t, status.(string), column(reason))
		return ok("ok", true, "status", status)
	default:
		if _, list := status.([]any); list {
			return page(http.StatusInternalServerError)
		}
		return refuse(http.StatusBadRequest, "Status must be one of: {'completed', 'running', 'failed'}")
	}
}

// setStatusLocked sets any status after any other, like the real server.
func (s *Server) setStatusLocked(t *testRow, status string, reason any) {
	if t.status == "queued" {
		a := t.agent
		a.queue = slices.DeleteFunc(a.queue, func(q *testRow) bool { return q == t })
	}
	if status == "running" {
		t.started = s.local()
	} else {
		t.ended, t.reason = s.local(), reason
	}
	t.setStatus(status)
	if t.stop != nil && status != "running" {
		t.stop(errEnded)
	}
	s.bus.publish("status", t.id, newObject("status", status, "test_id", t.id))
	s.wakeLocked()
}
