package kittapitest

import (
	"crypto/sha256"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// offlineAfter is how long an agent may be silent.
const offlineAfter = 90 * time.Second

// agentRow is the server's record of an agent.
type agentRow struct {
	id     string
	facts  *object // what a registration says, in its types
	status string
	hash   [sha256.Size]byte
	locked bool // whether there is a token
	prefix string
	notes  string
	tags   string // a JSON list

	registered string
	lastBeat   string
	beatAt     time.Time // lastBeat; zero before the first

	settings map[string]string
	tests    []*testRow // all, in order of creation
	queue    []*testRow // those queued, in order of handing out
	beats    []Beat     // the latest
	beatsHad int

	test *TestAgent // what it was made of, if it was made as a test agent
}

// settingNames are in the order of the server's code.
var settingNames = []string{
	"model_storage_dir", "model_share_source", "model_share_mount", "auto_cleanup", "heartbeat_interval_s", "kitt_image",
}

func defaultSettings() map[string]string {
	return map[string]string{
		"model_storage_dir": "~/.kitt/models", "model_share_source": "", "model_share_mount": "",
		"auto_cleanup": "true", "heartbeat_interval_s": "30", "kitt_image": "",
	}
}

// isTest reports whether the agent is one of the server's virtual agents, which
// are tagged so and never go offline.
func (a *agentRow) isTest() bool {
	v, err := parse([]byte(a.tags))
	if err != nil {
		return false
	}
	tags, _ := v.([]any)
	return slices.Contains(tags, any("test"))
}

func (a *agentRow) name() string { return a.facts.get("name").(string) }

// setToken makes token the agent's; empty leaves it open to all.
func (a *agentRow) setToken(token string) {
	a.hash, a.locked = sha256.Sum256([]byte(token)), token != ""
	a.prefix = token
	if runes := []rune(token); len(runes) > 8 {
		a.prefix = string(runes[:8])
	}
}

// row returns the agent as the API shows it.
func (a *agentRow) row() *object {
	o := newObject("id", a.id)
	for _, f := range registrationFields {
		if f.name != "capabilities" {
			o.set(f.name, a.facts.get(f.name))
		}
	}
	o.set("status", a.status)
	o.set("notes", a.notes)
	o.set("tags", a.tags)
	o.set("token_prefix", a.prefix)
	o.set("registered_at", a.registered)
	o.set("last_heartbeat", a.lastBeat)
	return o
}

// authorize checks a token against the agent's.
func (a *agentRow) authorize(token string) (answer, bool) {
	switch {
	case !a.locked:
	case token == "":
		return refuse(http.StatusUnauthorized, "Missing authorization"), false
	case sha256.Sum256([]byte(token)) != a.hash:
		return refuse(http.StatusForbidden, "Invalid token for this agent"), false
	}
	return answer{}, true
}

// resolveLocked returns the agent that the path names by id or by name, if the
// request may speak for it.
func (c *call) resolveLocked() (*agentRow, answer, bool) {
	a := c.s.agents[c.id]
	if a == nil {
		a = c.s.names[c.id]
	}
	if a == nil {
		return nil, refuse(http.StatusNotFound, "Agent not found"), false
	}
	denied, may := a.authorize(c.bearer())
	return a, denied, may
}

// addAgentLocked makes a record.
func (s *Server) addAgentLocked(facts *object, token, status string) *agentRow {
	a := &agentRow{
		id: newID(), facts: facts, status: status, tags: "[]",
		registered: s.local(), settings: defaultSettings(),
	}
	a.setToken(token)
	s.agents[a.id] = a
	s.names[a.name()] = a
	return a
}

// addUnregisteredLocked makes the record of an agent that has yet to register.
func (s *Server) addUnregisteredLocked(name string) *agentRow {
	facts, _ := check("AgentRegistration", registrationFields, newObject("name", name, "hostname", name))
	return s.addAgentLocked(facts, "", "provisioned")
}

func (s *Server) touchLocked(a *agentRow) {
	a.beatAt, a.lastBeat = s.now(), s.local()
}

func (c *call) register() answer {
	body := c.json()
	if !truthy(body) {
		return refuse(http.StatusBadRequest, "Invalid JSON body")
	}
	reg, fault := check("AgentRegistration", registrationFields, body)
	if fault != "" {
		return refuse(http.StatusBadRequest, "Invalid registration data: %s", fault)
	}
	token := c.bearer()
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.names[reg.get("name").(string)]
	if a != nil {
		if denied, may := a.authorize(token); !may {
			return denied
		}
	}
	for _, v := range reg.values {
		if _, list := v.([]any); !list && !bindable(v) {
			s.breachLocked("registration of %q: a value that the database does not take", reg.get("name"))
			return page(http.StatusInternalServerError)
		}
	}
	if a == nil {
		a = s.addAgentLocked(reg, token, "online")
	}
	a.facts, a.status = reg, "online"
	s.touchLocked(a)
	s.bus.publish("agent_status", a.id, newObject("name", a.name(), "status", "online"))
	return reply(http.StatusCreated, newObject("agent_id", a.id, "heartbeat_interval_s", num("30")))
}

func (c *call) heartbeat() answer {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	a, denied, may := c.resolveLocked()
	if !may {
		return denied
	}
	body := c.json()
	if !truthy(body) {
		body = newObject()
	}
	beat, fault := check("AgentHeartbeat", beatFields, body)
	if fault != "" {
		return refuse(http.StatusBadRequest, "Invalid heartbeat payload")
	}
	if why := beatBreach(beat); why != "" {
		s.breachLocked("heartbeat of %q: %s", a.name(), why)
		return page(http.StatusInternalServerError)
	}
	a.status = beat.get("status").(string)
	if a.status == "" {
		a.status = "idle"
	}
	s.touchLocked(a)
	a.addBeat(newBeat(s.now(), a, beat, body.(*object)))

	commands := []any{}
	if len(a.queue) > 0 {
		t := a.queue[0]
		a.queue = a.queue[1:]
		commands = append(commands, t.command())
		t.setStatus("dispatched")
		s.bus.publish("status", t.id, newObject("status", "dispatched", "test_id", t.id))
	}
	settings := newObject()
	for _, name := range settingNames {
		settings.set(name, a.settings[name])
	}
	return ok("ack", true, "agent_id", a.id, "commands", commands, "settings", settings)
}

// beatBreach returns why the database would not take a beat.
func beatBreach(beat *object) string {
	if !bindable(beat.get("status")) {
		return "a lone surrogate in its status"
	}
	for _, e := range beat.get("engines").([]any) {
		engine := e.(*object)
		if !truthy(engine.get("engine")) {
			continue
		}
		for _, key := range []string{"engine", "version", "binary_path"} {
			if !bindable(engine.get(key)) {
				return key + " of an engine is no plain value"
			}
		}
	}
	return ""
}

func (c *call) listAgents() answer {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	agents := make([]*agentRow, 0, len(s.agents))
	for _, a := range s.agents {
		s.checkStaleLocked(a)
		agents = append(agents, a)
	}
	slices.SortFunc(agents, func(a, b *agentRow) int { return strings.Compare(a.name(), b.name()) })
	rows := make([]any, len(agents))
	for i, a := range agents {
		rows[i] = a.row()
	}
	return reply(http.StatusOK, rows)
}

// checkStaleLocked calls an agent offline that has been silent for too long. The
// server does so only when somebody looks at the list.
func (s *Server) checkStaleLocked(a *agentRow) {
	if !a.beatAt.IsZero() && s.now().Sub(a.beatAt) > offlineAfter && !a.isTest() {
		a.status = "offline"
	}
}

func (c *call) getAgent() answer {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	a := c.s.agents[c.id]
	if a == nil {
		return refuse(http.StatusNotFound, "Agent not found")
	}
	return reply(http.StatusOK, a.row())
}

func (c *call) deleteAgent() answer {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.agents[c.id]
	switch {
	case a == nil:
		return refuse(http.StatusNotFound, "Agent not found")
	case len(a.tests) > 0:
		return page(http.StatusInternalServerError) // a foreign key holds it
	}
	delete(s.agents, a.id)
	delete(s.names, a.name())
	return ok("deleted", true)
}

func (c *call) patchAgent() answer {
	body, _ := c.json().(*object)
	if body == nil || len(body.keys) == 0 {
		return refuse(http.StatusBadRequest, "Invalid JSON body")
	}
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if !body.has("notes") && !body.has("tags") {
		return refuse(http.StatusBadRequest, "No valid fields to update")
	}
	if a := s.agents[c.id]; a != nil {
		if notes, text := body.get("notes").(string); text {
			a.notes = notes
		}
		if tags, text := body.get("tags").(string); text {
			a.tags = tags
		}
	}
	return ok("updated", true)
}

func (c *call) getSettings() answer {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	a := c.s.agents[c.id]
	if a == nil {
		return refuse(http.StatusNotFound, "Agent not found")
	}
	settings := newObject()
	for _, name := range settingNames {
		settings.set(name, a.settings[name])
	}
	return reply(http.StatusOK, settings)
}

func (c *call) putSettings() answer {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.agents[c.id]
	if a == nil {
		return refuse(http.StatusNotFound, "Agent not found")
	}
	body, _ := c.json().(*object)
	if body == nil || len(body.keys) == 0 {
		return refuse(http.StatusBadRequest, "Invalid JSON body — expected {key: value}")
	}
	if body.has("heartbeat_interval_s") {
		n, valid := toInt(body.get("heartbeat_interval_s"))
		if !valid {
			return refuse(http.StatusBadRequest, "heartbeat_interval_s must be an integer")
		}
		if n.Cmp(big.NewInt(10)) < 0 || n.Cmp(big.NewInt(300)) > 0 {
			return refuse(http.StatusBadRequest, "heartbeat_interval_s must be 10-300")
		}
	}
	updated := false
	for _, name := range settingNames {
		if !body.has(name) {
			continue
		}
		value := str(body.get(name))
		if !utf8.ValidString(value) {
			return page(http.StatusInternalServerError)
		}
		a.settings[name] = value
		updated = true
	}
	if !updated {
		return refuse(http.StatusBadRequest, "No valid settings to update")
	}
	return ok("updated", true)
}

func (c *call) rotate() answer {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.agents[c.id]
	if a == nil {
		return refuse(http.StatusNotFound, "Agent not found")
	}
	token := randomHex(32)
	a.setToken(token)
	return ok("token", token, "token_prefix", a.prefix)
}

// provisionLocked makes or replaces the token of the agent with that name.
func (s *Server) provisionLocked(name string, port num) {
	a := s.names[name]
	if a == nil {
		a = s.addUnregisteredLocked(name)
	}
	a.facts.set("port", port)
	a.setToken(randomHex(32))
}
