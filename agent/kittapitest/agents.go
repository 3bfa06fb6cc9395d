package kittapitest

import (
	"crypto/sha256"
	"net/http"
	"slices"
	"strings"
	"time"
)

// offlineAfter is how long an agent may send no heartbeat.
const offlineAfter = 90 * time.Second

// agentRow is the server's record of an agent.
type agentRow struct {
	id     string
	facts  object // the validated registration
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
	tests    []*testRow // in order of creation
	queue    []*testRow // not sent yet, in the order in which they are sent
	beats    []Beat     // the latest
	beatsHad int

	test *TestAgent // nil unless it was added as a test agent
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

// isTest reports whether the agent is one of the server's virtual agents. They have
// the tag "test" and never go offline.
func (a *agentRow) isTest() bool {
	v, err := parse([]byte(a.tags))
	if err != nil {
		return false
	}
	tags, _ := v.([]any)
	return slices.Contains(tags, any("test"))
}

func (a *agentRow) name() string { return a.facts["name"].(string) }

// setToken sets the agent's token. An empty one disables the check.
func (a *agentRow) setToken(token string) {
	a.hash, a.locked = sha256.Sum256([]byte(token)), token != ""
	a.prefix = token
	if runes := []rune(token); len(runes) > 8 {
		a.prefix = string(runes[:8])
	}
}

// row returns the agent in the form of the API.
func (a *agentRow) row() object {
	o := newObject("id", a.id)
	for _, f := range registrationFields {
		if f.name != "capabilities" {
			o[f.name] = a.facts[f.name]
		}
	}
	o["status"] = a.status
	o["notes"] = a.notes
	o["tags"] = a.tags
	o["token_prefix"] = a.prefix
	o["registered_at"] = a.registered
	o["last_heartbeat"] = a.lastBeat
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

// addAgentLocked creates the record of an agent.
func (s *Server) addAgentLocked(facts object, token, status string) *agentRow {
	a := &agentRow{
		id: newID(), facts: facts, status: status, tags: "[]",
		registered: s.local(), settings: defaultSettings(),
	}
	a.setToken(token)
	s.agents[a.id] = a
	s.names[a.name()] = a
	return a
}

// addUnregisteredLocked creates the record of an agent that has not registered.
func (s *Server) addUnregisteredLocked(name string) *agentRow {
	facts, _ := check("AgentRegistration", registrationFields, newObject("name", name, "hostname", name))
	return s.addAgentLocked(facts, "", "provisioned")
}

func (s *Server) touchLocked(a *agentRow) {
	a.beatAt, a.lastBeat = s.now(), s.local()
}

func (c *call) register() answer {
	if !truthy(c.json) {
		return refuse(http.StatusBadRequest, "Invalid JSON body")
	}
	reg, fault := check("AgentRegistration", registrationFields, c.json)
	if fault != "" {
		return refuse(http.StatusBadRequest, "Invalid registration data: %s", fault)
	}
	token := c.bearer()
	s := c.s
	a := s.names[reg["name"].(string)]
	if a != nil {
		if denied, may := a.authorize(token); !may {
			return denied
		}
	}
	for _, v := range reg {
		if _, list := v.([]any); !list && !bindable(v) {
			s.breachLocked("registration of %q: a value that the database does not accept", reg["name"])
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

func (c *call) heartbeat(a *agentRow) answer {
	s := c.s
	body := c.json
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
	a.status = beat["status"].(string)
	if a.status == "" {
		a.status = "idle"
	}
	s.touchLocked(a)
	a.addBeat(newBeat(s.now(), a, beat, body.(object)))

	commands := []any{}
	if len(a.queue) > 0 {
		t := a.queue[0]
		a.queue = a.queue[1:]
		commands = append(commands, t.command())
		t.setStatus("dispatched")
		s.bus.publish("status", t.id, newObject("status", "dispatched", "test_id", t.id))
	}
	return ok("ack", true, "agent_id", a.id, "commands", commands, "settings", a.settings)
}

// beatBreach returns why the database would reject a heartbeat.
func beatBreach(beat object) string {
	if !bindable(beat["status"]) {
		return "a lone surrogate in its status"
	}
	for _, e := range beat["engines"].([]any) {
		engine, _ := e.(object)
		if !truthy(engine["engine"]) {
			continue
		}
		for _, key := range []string{"engine", "version", "binary_path"} {
			if !bindable(engine[key]) {
				return key + " of an engine is not a plain value"
			}
		}
	}
	return ""
}

func (c *call) listAgents() answer {
	s := c.s
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

// checkStaleLocked sets an agent offline that has sent no heartbeat for too long.
// The real server does so only when it lists the agents.
func (s *Server) checkStaleLocked(a *agentRow) {
	if !a.beatAt.IsZero() && s.now().Sub(a.beatAt) > offlineAfter && !a.isTest() {
		a.status = "offline"
	}
}

func (c *call) getAgent(a *agentRow) answer { return reply(http.StatusOK, a.row()) }

func (c *call) deleteAgent(a *agentRow) answer {
	if len(a.tests) > 0 {
		return page(http.StatusInternalServerError) // a foreign key refers to it
	}
	delete(c.s.agents, a.id)
	delete(c.s.names, a.name())
	return ok("deleted", true)
}

func (c *call) patchAgent() answer {
	body, _ := c.json.(object)
	if len(body) == 0 {
		return refuse(http.StatusBadRequest, "Invalid JSON body")
	}
	if !body.has("notes") && !body.has("tags") {
		return refuse(http.StatusBadRequest, "No valid fields to update")
	}
	if a := c.s.agents[c.id]; a != nil {
		if notes, text := body["notes"].(string); text {
			a.notes = notes
		}
		if tags, text := body["tags"].(string); text {
			a.tags = tags
		}
	}
	return ok("updated", true)
}

func (c *call) getSettings(a *agentRow) answer { return reply(http.StatusOK, a.settings) }

func (c *call) putSettings(a *agentRow) answer {
	body, _ := c.json.(object)
	if len(body) == 0 {
		return refuse(http.StatusBadRequest, "Invalid JSON body — expected {key: value}")
	}
	if body.has("heartbeat_interval_s") {
		n, valid := toInt(body["heartbeat_interval_s"])
		if !valid {
			return refuse(http.StatusBadRequest, "heartbeat_interval_s must be an integer")
		}
		if n < 10 || n > 300 {
			return refuse(http.StatusBadRequest, "heartbeat_interval_s must be 10-300")
		}
	}
	updated := false
	for _, name := range settingNames {
		if !body.has(name) {
			continue
		}
		value := str(body[name])
		if !bindable(value) {
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

func (c *call) rotate(a *agentRow) answer {
	token := randomHex(32)
	a.setToken(token)
	return ok("token", token, "token_prefix", a.prefix)
}

// provisionLocked sets a new token for the agent with that name, which it creates
// if necessary.
func (s *Server) provisionLocked(name string, port num) {
	a := s.names[name]
	if a == nil {
		a = s.addUnregisteredLocked(name)
	}
	a.facts["port"] = port
	a.setToken(randomHex(32))
}
