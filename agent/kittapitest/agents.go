package kittapitest

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/runner"
)

func hexText(b []byte) string { return hex.EncodeToString(b) }

// decode decodes JSON as Python does, NaN included.
func decode(text []byte, v *any) error {
	got, err := runner.DecodeLenient(text)
	if err != nil {
		return err
	}
	*v = got
	return nil
}

// offlineAfter is the silence after which an agent is called offline.
const offlineAfter = 90 * time.Second

// agentRow is the server's record of an agent.
type agentRow struct {
	ID, Name, Hostname string
	Status             string
	fields             map[string]any // the rest of what it registered with
	token              string
	settings           map[string]string
	lastBeat           time.Time
	registered         time.Time
	queued             []*testRow
	tested             bool // whether it ever had a test
}

// AgentInfo is what a server knows about an agent.
type AgentInfo struct {
	ID, Name, Hostname, Status string
	LastHeartbeat              time.Time
	Fields                     map[string]any // the rest of its registration
}

// defaultSettings are those that nobody ever touched.
func defaultSettings() map[string]string {
	return map[string]string{
		"model_storage_dir": "~/.kitt/models", "model_share_source": "", "model_share_mount": "",
		"auto_cleanup": "true", "heartbeat_interval_s": "30", "kitt_image": "",
	}
}

func (s *Server) addAgentLocked(name string) *agentRow {
	a := &agentRow{ID: newID(), Name: name, settings: defaultSettings(), registered: s.now(), fields: map[string]any{}}
	s.agents[a.ID], s.names[name] = a, a
	s.order = append(s.order, a)
	return a
}

// findLocked returns the agent with an id or a name.
func (s *Server) findLocked(idOrName string) *agentRow {
	if a := s.agents[idOrName]; a != nil {
		return a
	}
	return s.names[idOrName]
}

// presentLocked checks the token that an agent presents. The server's mu must be
// held.
func (a *agentRow) presentLocked(w http.ResponseWriter, r *http.Request) bool {
	if a.token == "" {
		return true
	}
	token, ok := bearer(r)
	switch {
	case !ok:
		fail(w, 401, "Missing authorization")
	case !sameToken(token, a.token):
		fail(w, 403, "Invalid token for this agent")
	default:
		return true
	}
	return false
}

// presenting returns the agent that a path names by id or name and whose token
// the request presents, answering for it if there is none.
func (s *Server) presenting(w http.ResponseWriter, r *http.Request) *agentRow {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.findLocked(r.PathValue("id"))
	if a == nil {
		fail(w, 404, "Agent not found")
		return nil
	}
	if !a.presentLocked(w, r) {
		return nil
	}
	return a
}

// The fields of a registration beside name and hostname, and what they are when
// left out.
var (
	numberFields = map[string]float64{"port": 8090, "gpu_count": 0, "ram_gb": 0}
	textFields   = []string{"gpu_info", "cpu_info", "cpu_arch", "environment_type", "fingerprint", "kitt_version", "hardware_details"}
)

func checkRegistration(m map[string]any) error {
	invalid := func(field, why string) error {
		return fmt.Errorf("Invalid registration data: 1 validation error for AgentRegistration\n%s\n  %s", field, why) //nolint:staticcheck // the server's words
	}
	for _, field := range []string{"name", "hostname"} {
		v, there := m[field]
		if !there {
			return invalid(field, "field required (type=value_error.missing)")
		}
		if _, ok := v.(string); !ok {
			return invalid(field, "str type expected (type=type_error.str)")
		}
	}
	for field := range numberFields {
		if v, there := m[field]; there && !isInt(v) {
			return invalid(field, "value is not a valid integer (type=type_error.integer)")
		}
	}
	for _, field := range textFields {
		if v, there := m[field]; there {
			if _, ok := v.(string); !ok {
				return invalid(field, "str type expected (type=type_error.str)")
			}
		}
	}
	if v, there := m["capabilities"]; there {
		if _, ok := v.([]any); !ok {
			return invalid("capabilities", "value is not a valid list (type=type_error.list)")
		}
	}
	return nil
}

func (s *Server) register(w http.ResponseWriter, r *http.Request) {
	v, raw := body(r)
	if isEmpty(v) {
		fail(w, 400, "Invalid JSON body")
		return
	}
	m, ok := v.(map[string]any)
	if !ok {
		fail(w, 400, "Invalid registration data: argument after ** must be a mapping, not list")
		return
	}
	if err := checkRegistration(m); err != nil {
		fail(w, 400, err.Error())
		return
	}
	if loneSurrogate(raw) {
		page(w, 500)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := m["name"].(string)
	a := s.names[name]
	if a != nil {
		if !a.presentLocked(w, r) {
			return
		}
	} else {
		a = s.addAgentLocked(name)
		a.token, _ = bearer(r)
	}
	a.Hostname = m["hostname"].(string)
	for field, otherwise := range numberFields {
		a.fields[field] = otherwise
		if f, ok := m[field].(float64); ok {
			a.fields[field] = float64(int64(f))
		}
	}
	for _, field := range textFields {
		a.fields[field] = text(m, field, "")
	}
	a.Status, a.lastBeat = "online", s.now()
	s.events.send(a.ID, "agent_status", map[string]any{"name": name, "status": "online"})
	s.wakeLocked()
	answer(w, 201, map[string]any{"agent_id": a.ID, "heartbeat_interval_s": 30})
}

func isEmpty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	case string:
		return v == ""
	case float64:
		return v == 0
	case bool:
		return !v
	}
	return false
}

// beatOK reports whether a heartbeat's fields are of their types.
func beatOK(m map[string]any) bool {
	for key, v := range m {
		ok := true
		switch key {
		case "status", "current_task":
			_, ok = v.(string)
		case "gpu_utilization_pct", "gpu_memory_used_gb", "storage_gb_free", "uptime_s":
			_, ok = v.(float64)
		case "engines":
			_, ok = v.([]any)
		}
		if !ok {
			return false
		}
	}
	return true
}

func (s *Server) heartbeat(w http.ResponseWriter, r *http.Request) {
	a := s.presenting(w, r)
	if a == nil {
		return
	}
	m, raw := object(r)
	if !beatOK(m) {
		fail(w, 400, "Invalid heartbeat payload")
		return
	}
	if loneSurrogate(raw) {
		page(w, 500)
		return
	}
	s.mu.Lock()
	a.Status = text(m, "status", "idle")
	if a.Status == "" {
		a.Status = "idle"
	}
	a.lastBeat = s.now()
	s.beats[a.ID]++
	commands := []any{}
	if t := a.next(); t != nil {
		// Marked before the answer has reached anyone, as on the real server.
		s.setStatusLocked(t, "dispatched", nil)
		commands = append(commands, t.command())
	}
	settings := maps.Clone(a.settings)
	s.wakeLocked()
	s.mu.Unlock()
	answer(w, 200, map[string]any{"ack": true, "agent_id": a.ID, "commands": commands, "settings": settings})
}

// next takes the test that is handed out next: the oldest by the text of
// created_at, whose two forms let cleanups and engines overtake.
func (a *agentRow) next() *testRow {
	a.queued = slices.DeleteFunc(a.queued, func(t *testRow) bool { return t.Status != "queued" })
	if len(a.queued) == 0 {
		return nil
	}
	best := 0
	for i, t := range a.queued {
		if t.CreatedAt < a.queued[best].CreatedAt {
			best = i
		}
	}
	t := a.queued[best]
	a.queued = slices.Delete(a.queued, best, best+1)
	return t
}

// row returns the agent as the server shows it. s.mu must be held.
func (s *Server) rowLocked(a *agentRow) map[string]any {
	row := maps.Clone(a.fields)
	prefix := a.token
	if len(prefix) > 8 {
		prefix = prefix[:8]
	}
	beat := ""
	if !a.lastBeat.IsZero() {
		beat = localTime(a.lastBeat)
	}
	maps.Copy(row, map[string]any{
		"id": a.ID, "name": a.Name, "hostname": a.Hostname, "status": a.Status,
		"last_heartbeat": beat, "registered_at": localTime(a.registered),
		"notes": "", "tags": "[]", "token_prefix": prefix,
	})
	return row
}

// agent returns the agent that a path names by its id, answering 404 if there
// is none.
func (s *Server) agent(w http.ResponseWriter, r *http.Request) *agentRow {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.agents[r.PathValue("id")]
	if a == nil {
		fail(w, 404, "Agent not found")
	}
	return a
}

func (s *Server) getAgent(w http.ResponseWriter, r *http.Request) {
	if a := s.agent(w, r); a != nil {
		s.mu.Lock()
		row := s.rowLocked(a)
		s.mu.Unlock()
		answer(w, 200, row)
	}
}

// listAgents is when the server reckons who is offline.
func (s *Server) listAgents(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	items := []any{}
	for _, a := range s.order {
		if a.Status != "provisioned" && s.now().Sub(a.lastBeat) > offlineAfter {
			a.Status = "offline"
		}
		items = append(items, s.rowLocked(a))
	}
	s.mu.Unlock()
	answer(w, 200, map[string]any{"items": items, "total": len(items), "page": 1, "pages": 1})
}

// deleteAgent deletes an agent, unless it ever had a test: the real server's
// database refuses that.
func (s *Server) deleteAgent(w http.ResponseWriter, r *http.Request) {
	a := s.agent(w, r)
	if a == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.tested {
		page(w, 500)
		return
	}
	delete(s.agents, a.ID)
	delete(s.names, a.Name)
	s.order = slices.DeleteFunc(s.order, func(b *agentRow) bool { return a == b })
	answer(w, 200, map[string]any{"deleted": true})
}

func (s *Server) rotateToken(w http.ResponseWriter, r *http.Request) {
	a := s.agent(w, r)
	if a == nil {
		return
	}
	s.mu.Lock()
	a.token = randomHex(32)
	token := a.token
	s.mu.Unlock()
	answer(w, 200, map[string]any{"token": token, "token_prefix": token[:8]})
}

func (s *Server) getSettings(w http.ResponseWriter, r *http.Request) {
	if a := s.agent(w, r); a != nil {
		s.mu.Lock()
		settings := maps.Clone(a.settings)
		s.mu.Unlock()
		answer(w, 200, settings)
	}
}

func (s *Server) putSettings(w http.ResponseWriter, r *http.Request) {
	a := s.agent(w, r)
	if a == nil {
		return
	}
	m, _ := object(r)
	known := map[string]string{}
	for key, v := range m {
		if _, ok := defaultSettings()[key]; ok {
			known[key] = pythonText(v)
		}
	}
	if len(known) == 0 {
		fail(w, 400, "No valid settings to update")
		return
	}
	if v, there := m["heartbeat_interval_s"]; there {
		n, ok := pythonInt(v)
		if !ok {
			fail(w, 400, "heartbeat_interval_s must be an integer")
			return
		}
		if n < 10 || n > 300 {
			fail(w, 400, "heartbeat_interval_s must be 10-300")
			return
		}
	}
	s.mu.Lock()
	maps.Copy(a.settings, known)
	s.mu.Unlock()
	answer(w, 200, map[string]any{"updated": true})
}

// pythonText is Python's text of a value, as the server stores settings.
func pythonText(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		if v {
			return "True"
		}
		return "False"
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case []any:
		parts := make([]string, len(v))
		for i, each := range v {
			parts[i] = pythonText(each)
			if _, ok := each.(string); ok {
				parts[i] = "'" + parts[i] + "'"
			}
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	text, _ := json.Marshal(v) // near enough for objects
	return string(text)
}

// pythonInt is Python's int() of a value.
func pythonInt(v any) (int, bool) {
	switch v := v.(type) {
	case float64:
		return int(v), true
	case string:
		n, err := strconv.Atoi(strings.ReplaceAll(strings.TrimSpace(v), "_", ""))
		return n, err == nil
	}
	return 0, false
}
