package kittapitest

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// testRow is the server's record of a test, or of another command.
type testRow struct {
	ID, CommandID, AgentID, AgentName                string
	Model, Engine, Benchmark, Suite, Mode, ProfileID string
	Status                                           string
	Error                                            any // a text, or nil if somebody put null
	CreatedAt, StartedAt, CompletedAt                string
	history                                          []string
	rows                                             []logRow
}

type logRow struct{ line, at string }

// row returns the test as the server shows it.
func (t *testRow) row(withAgent bool) map[string]any {
	row := map[string]any{
		"id": t.ID, "agent_id": t.AgentID, "command_id": t.CommandID, "model_path": t.Model,
		"engine_name": t.Engine, "benchmark_name": t.Benchmark, "suite_name": t.Suite, "engine_mode": t.Mode,
		"profile_id": t.ProfileID, "status": t.Status, "error": t.Error, "result_id": nil,
		"created_at": t.CreatedAt, "started_at": t.StartedAt, "completed_at": t.CompletedAt,
	}
	if withAgent {
		row["agent_name"] = t.AgentName
	}
	return row
}

// kind is the type of command that the server makes of a row.
func (t *testRow) kind() string {
	switch {
	case t.Engine == "cleanup":
		return "cleanup_storage"
	case t.Benchmark == "install_engine" || t.Benchmark == "start_engine" || t.Benchmark == "stop_engine":
		return t.Benchmark
	}
	return "run_test"
}

// command is what a heartbeat hands out.
func (t *testRow) command() map[string]any {
	payload := map[string]any{
		"model_path": t.Model, "engine_name": t.Engine, "benchmark_name": t.Benchmark,
		"suite_name": t.Suite, "engine_mode": t.Mode, "profile_id": t.ProfileID,
	}
	if strings.HasSuffix(t.kind(), "_engine") {
		var config any
		if json.Unmarshal([]byte(t.ProfileID), &config) != nil {
			config = map[string]any{}
		}
		payload["runtime_config"] = config
	}
	return map[string]any{"command_id": t.CommandID, "test_id": t.ID, "type": t.kind(), "payload": payload}
}

// addTestLocked queues a test for a. s.mu must be held.
func (s *Server) addTestLocked(a *agentRow, t *testRow) {
	t.AgentID, t.AgentName, t.Error = a.ID, a.Name, ""
	if t.ID == "" {
		t.ID = newID()
	}
	if t.CommandID == "" {
		t.CommandID = newID()
	}
	s.tests[t.ID], s.commands[t.CommandID] = t, t
	s.list = append(s.list, t)
	a.queued = append(a.queued, t)
	a.tested = true
	s.setStatusLocked(t, "queued", nil)
}

// setStatusLocked sets a test's status. s.mu must be held.
func (s *Server) setStatusLocked(t *testRow, status string, reason any) {
	t.Status = status
	t.history = append(t.history, status)
	switch status {
	case "running":
		t.StartedAt = localTime(s.now())
	case "completed", "failed":
		t.CompletedAt = localTime(s.now())
		t.Error = reason
	}
	data := map[string]any{"status": status, "test_id": t.ID}
	if status == "queued" {
		data["command_id"] = t.CommandID
	}
	s.events.send(t.ID, "status", data)
	s.wakeLocked()
}

func (s *Server) postLaunch(w http.ResponseWriter, r *http.Request) {
	m, _ := object(r)
	for _, field := range []string{"agent_id", "model_path", "engine_name"} {
		if _, ok := m[field].(string); !ok {
			fail(w, 400, "'"+field+"' is required")
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.agents[m["agent_id"].(string)]
	if a == nil {
		fail(w, 404, "Agent not found")
		return
	}
	t := &testRow{
		Model: text(m, "model_path", ""), Engine: text(m, "engine_name", ""),
		Benchmark: text(m, "benchmark_name", "throughput"), Suite: text(m, "suite_name", "quick"),
		Mode: text(m, "engine_mode", "docker"), ProfileID: text(m, "profile_id", ""),
		CreatedAt: localTime(s.now()),
	}
	s.addTestLocked(a, t)
	answer(w, 202, map[string]any{"id": t.ID, "command_id": t.CommandID, "status": "queued"})
}

func (s *Server) postCleanup(w http.ResponseWriter, r *http.Request) {
	a := s.agent(w, r)
	if a == nil {
		return
	}
	m, _ := object(r)
	model := text(m, "model_path", "")
	if model == "" {
		model = "__cleanup__"
	}
	id := newID()
	s.mu.Lock()
	s.addTestLocked(a, &testRow{
		ID: id, CommandID: id, Model: model, Engine: "cleanup", Benchmark: "cleanup_storage",
		Suite: "quick", Mode: "docker", CreatedAt: dbTime(s.now()),
	})
	s.mu.Unlock()
	answer(w, 202, map[string]any{"command_id": id, "queued": true})
}

func (s *Server) postEngine(w http.ResponseWriter, r *http.Request) {
	what := r.PathValue("what")
	if !slices.Contains([]string{"install", "start", "stop"}, what) {
		page(w, 404)
		return
	}
	a := s.agent(w, r)
	if a == nil {
		return
	}
	m, raw := object(r)
	engine := text(m, "engine_name", "")
	if engine == "" {
		fail(w, 400, "'engine_name' is required")
		return
	}
	profile := ""
	var parts struct {
		Config json.RawMessage `json:"runtime_config"`
	}
	if json.Unmarshal(raw, &parts) == nil && len(parts.Config) > 0 {
		profile = pythonJSON(parts.Config)
	}
	id := newID()
	s.mu.Lock()
	s.addTestLocked(a, &testRow{
		ID: id, CommandID: id, Model: text(m, "model_path", ""), Engine: engine, Benchmark: what + "_engine",
		Suite: "quick", Mode: "native", ProfileID: profile, CreatedAt: dbTime(s.now()),
	})
	s.mu.Unlock()
	answer(w, 202, map[string]any{"command_id": id, "status": "queued"})
}

// pythonJSON writes JSON as Python does: with blanks behind : and ,.
func pythonJSON(raw []byte) string {
	var b strings.Builder
	inString := false
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		switch {
		case inString && c == '\\' && i+1 < len(raw):
			b.WriteByte(c)
			i++
			c = raw[i]
		case c == '"':
			inString = !inString
		case inString:
		case c == ' ' || c == '\n' || c == '\t' || c == '\r':
			continue
		case c == ':' || c == ',':
			b.WriteByte(c)
			c = ' '
		}
		b.WriteByte(c)
	}
	return b.String()
}

// test returns the test that a path names, answering 404 if there is none.
func (s *Server) test(w http.ResponseWriter, r *http.Request) *testRow {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tests[r.PathValue("id")]
	if t == nil {
		fail(w, 404, "Quick test not found")
	}
	return t
}

func (s *Server) getTest(w http.ResponseWriter, r *http.Request) {
	if t := s.test(w, r); t != nil {
		s.mu.Lock()
		row := t.row(false)
		s.mu.Unlock()
		answer(w, 200, row)
	}
}

func (s *Server) listTests(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	s.mu.Lock()
	rows := []map[string]any{}
	for _, t := range s.list {
		if name := query.Get("agent_name"); name != "" && t.AgentName != name {
			continue
		}
		if status := query.Get("status"); status != "" && t.Status != status {
			continue
		}
		rows = append(rows, t.row(true))
	}
	s.mu.Unlock()
	// Newest first, by the text of the time, whose two forms don't mix well.
	slices.SortStableFunc(rows, func(a, b map[string]any) int {
		return strings.Compare(text(b, "created_at", ""), text(a, "created_at", ""))
	})
	items, page, pages, _ := paged(rows, r, 20)
	answer(w, 200, map[string]any{"items": items, "total": len(rows), "page": page, "pages": pages})
}

// paged cuts the page out of rows that a request asks for, by default of perPage
// rows.
func paged(rows []map[string]any, r *http.Request, perPage int) (items []map[string]any, page, pages, per int) {
	number := func(key string, otherwise, least, most int) int {
		n, err := strconv.Atoi(r.URL.Query().Get(key))
		if err != nil {
			return otherwise
		}
		return min(max(n, least), most)
	}
	per = number("per_page", perPage, 1, 100)
	page = number("page", 1, 1, 1<<30)
	pages = max(1, (len(rows)+per-1)/per)
	from := min((page-1)*per, len(rows))
	return rows[from:min(from+per, len(rows))], page, pages, per
}

func (s *Server) getLogs(w http.ResponseWriter, r *http.Request) {
	t := s.test(w, r)
	if t == nil {
		return
	}
	s.mu.Lock()
	rows := slices.Clone(t.rows)
	s.mu.Unlock()
	lines := make([]map[string]string, len(rows))
	for i, row := range rows {
		lines[i] = map[string]string{"line": row.line, "created_at": row.at}
	}
	answer(w, 200, map[string]any{"lines": lines})
}

func (s *Server) postLog(w http.ResponseWriter, r *http.Request) {
	m, raw := object(r)
	t := s.test(w, r)
	if t == nil {
		return
	}
	v, there := m["line"]
	if !there {
		fail(w, 400, "'line' is required")
		return
	}
	var line string
	switch v := v.(type) {
	case string:
		line = v
	case float64, bool:
		line = pythonText(v)
	default:
		page(w, 500) // a list, an object or null breaks the real server
		return
	}
	if loneSurrogate(raw) {
		page(w, 500)
		return
	}
	s.mu.Lock()
	t.rows = append(t.rows, logRow{line, dbTime(s.now())})
	s.events.send(t.ID, "log", map[string]any{"line": line, "test_id": t.ID})
	s.wakeLocked()
	s.mu.Unlock()
	answer(w, 200, map[string]any{"ok": true})
}

func (s *Server) postStatus(w http.ResponseWriter, r *http.Request) {
	m, raw := object(r)
	t := s.test(w, r)
	if t == nil {
		return
	}
	status, ok := m["status"].(string)
	if !ok {
		fail(w, 400, "'status' is required")
		return
	}
	if !slices.Contains([]string{"running", "completed", "failed"}, status) {
		fail(w, 400, "Status must be one of: {'completed', 'failed', 'running'}")
		return
	}
	var reason any = ""
	if v, there := m["error"]; there {
		reason = v
	}
	switch v := reason.(type) {
	case float64:
		reason = pythonText(v)
	case map[string]any, []any:
		page(w, 500)
		return
	}
	if loneSurrogate(raw) {
		page(w, 500)
		return
	}
	s.mu.Lock()
	s.setStatusLocked(t, status, reason)
	s.mu.Unlock()
	answer(w, 200, map[string]any{"ok": true, "status": status})
}

func (s *Server) postResult(w http.ResponseWriter, r *http.Request) {
	if s.presenting(w, r) == nil {
		return
	}
	v, raw := body(r)
	if isEmpty(v) {
		fail(w, 400, "Invalid JSON body")
		return
	}
	m, _ := v.(map[string]any)
	data := m["result_data"]
	if isEmpty(data) {
		answer(w, 202, map[string]any{"accepted": true})
		return
	}
	result, ok := data.(map[string]any)
	if !ok || loneSurrogate(raw) || breaksDatabase(result) {
		page(w, 500)
		return
	}
	result["id"] = newID()
	s.mu.Lock()
	s.results = append(s.results, result)
	s.wakeLocked()
	s.mu.Unlock()
	answer(w, 202, map[string]any{"accepted": true})
}

// breaksDatabase reports whether result data is of the kind that leaves the
// real server's database locked.
func breaksDatabase(m map[string]any) bool {
	for key, ok := range map[string]func(any) bool{
		"model": isText, "engine": isText, "suite_name": isText, "timestamp": isText,
		"total_benchmarks": isInt, "passed_count": isInt, "failed_count": isInt, "total_time_seconds": isInt,
	} {
		if v, there := m[key]; there && !ok(v) {
			return true
		}
	}
	if v, there := m["results"]; there {
		list, ok := v.([]any)
		if !ok {
			return true
		}
		for _, each := range list {
			test, ok := each.(map[string]any)
			if !ok {
				return true
			}
			if metrics, there := test["metrics"]; there {
				if _, ok := metrics.(map[string]any); !ok {
					return true
				}
			}
		}
	}
	switch m["system_info"].(type) {
	case nil, map[string]any:
		return false
	}
	return true
}

func isText(v any) bool { _, ok := v.(string); return ok }

func (s *Server) listResults(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	s.mu.Lock()
	rows := []map[string]any{}
	for _, result := range slices.Backward(s.results) {
		keep := true
		for _, key := range []string{"model", "engine", "suite_name"} {
			if want := query.Get(key); want != "" && result[key] != want {
				keep = false
			}
		}
		if keep {
			rows = append(rows, result)
		}
	}
	s.mu.Unlock()
	slices.SortStableFunc(rows, func(a, b map[string]any) int {
		return strings.Compare(text(b, "timestamp", ""), text(a, "timestamp", ""))
	})
	items, page, pages, per := paged(rows, r, 25)
	answer(w, 200, map[string]any{"items": items, "total": len(rows), "page": page, "per_page": per, "pages": pages})
}

// keepAliveEvery is the time between comments on an event stream where nothing
// happens.
const keepAliveEvery = 30 * time.Second
