package kittapitest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// campaignTimeout is how long a campaign waits for a test that it queued.
const campaignTimeout = 30 * time.Minute

// A campaign queues one test after another for one agent.
type campaign struct {
	id, name, description   string
	agent                   *agentRow
	config                  object
	status, reason          string
	created, started, ended string
	total, good, bad        int
	succeeded, failed       int // good and bad as the API reports them: only at the end
	log                     []logRow

	runs     []run
	next     int // of runs
	test     *testRow
	seen     string // its status at the last poll
	queuedAt time.Time
	active   bool
}

// A run is one test of a campaign.
type run struct {
	model, engine, mode, profile, benchmark string
}

func (p *campaign) row() object {
	o := p.summary()
	o["config"] = p.config
	return o
}

func (p *campaign) summary() object {
	return newObject(
		"id", p.id, "name", p.name, "description", p.description, "agent_id", p.agent.id,
		"status", p.status, "error", p.reason, "created_at", p.created, "started_at", p.started, "completed_at", p.ended,
		"total_runs", integer(p.total), "succeeded", integer(p.succeeded), "failed", integer(p.failed), "skipped", num("0"),
	)
}

func (c *call) listCampaigns() answer {
	status := c.r.URL.Query().Get("status")
	page, perPage := max(c.number("page", 1), 1), max(c.number("per_page", 25), 1)
	var found []*campaign
	for _, p := range c.s.campaigns {
		if status == "" || p.status == status {
			found = append(found, p)
		}
	}
	slices.SortFunc(found, func(a, b *campaign) int { return strings.Compare(b.created+b.id, a.created+a.id) })
	items := []any{}
	for _, p := range cutPage(found, page, perPage) {
		items = append(items, p.summary())
	}
	o := pageOf(items, len(found), page, perPage)
	o["per_page"] = integer(perPage)
	return reply(http.StatusOK, o)
}

func (c *call) createCampaign() answer {
	body, _ := c.json.(object)
	if len(body) == 0 {
		return refuse(http.StatusBadRequest, "Invalid JSON body")
	}
	if !truthy(body["name"]) {
		return refuse(http.StatusBadRequest, "Campaign name is required")
	}
	config, isObject := body.or("config", newObject()).(object)
	if !isObject {
		return page(http.StatusInternalServerError)
	}
	for _, f := range [][2]string{{"models", "Model"}, {"engines", "Engine"}} {
		list, isList := config.or(f[0], []any{}).([]any)
		if !isList {
			return refuse(http.StatusBadRequest, "config.%s must be a list", f[0])
		}
		for i, element := range list {
			if o, isObject := element.(object); !isObject || !truthy(o["name"]) {
				return refuse(http.StatusBadRequest, "%s at index %d must have a 'name'", f[1], i)
			}
		}
	}
	s := c.s
	id, _ := body.or("agent_id", "").(string)
	if id == "" {
		return page(http.StatusInternalServerError) // a foreign key wants an agent
	}
	a := s.agents[id]
	if a == nil {
		return refuse(http.StatusNotFound, "Agent not found")
	}
	p := &campaign{
		id: newID(), name: str(body["name"]), description: str(body.or("description", "")),
		agent: a, config: config, status: "draft", created: s.local(), runs: runsOf(config),
	}
	s.campaigns[p.id] = p
	s.bus.publish("campaign_created", p.id, newObject("name", p.name))
	return reply(http.StatusCreated, newObject("id", p.id))
}

// runsOf returns the tests of a campaign: models by engines by benchmarks.
func runsOf(config object) []run {
	list := func(key string, fallback []any) []any {
		l, _ := config.or(key, fallback).([]any)
		return l
	}
	var runs []run
	for _, m := range list("models", nil) {
		model := m.(object)
		for _, e := range list("engines", nil) {
			engine := e.(object)
			for _, benchmark := range list("benchmarks", []any{"throughput"}) {
				runs = append(runs, run{
					model:     str(model.or("path", model["name"])),
					engine:    str(engine["name"]),
					mode:      str(engine.or("mode", "docker")),
					profile:   str(engine.or("profile_id", "")),
					benchmark: str(benchmark),
				})
			}
		}
	}
	return runs
}

func (c *call) getCampaign(p *campaign) answer { return reply(http.StatusOK, p.row()) }

func (c *call) campaignLogs() answer {
	if p := c.s.campaigns[c.id]; p != nil {
		return logAnswer(p.log)
	}
	return logAnswer(nil)
}

func (c *call) launchCampaign(p *campaign) answer {
	s := c.s
	if p.status != "draft" && p.status != "failed" {
		return refuse(http.StatusBadRequest, "Cannot launch campaign in '%s' status", p.status)
	}
	s.campaignStatusLocked(p, "queued", "")
	p.next, p.good, p.bad, p.test = 0, 0, 0, nil
	if len(p.runs) == 0 {
		s.campaignStatusLocked(p, "failed", "No test combinations in campaign config")
		return reply(http.StatusAccepted, newObject("status", "queued"))
	}
	p.total, p.active = len(p.runs), true
	s.campaignStatusLocked(p, "running", "")
	s.campaignLogLocked(p, "Campaign started: %d runs", p.total)
	s.advanceLocked(p)
	s.pollLocked()
	return reply(http.StatusAccepted, newObject("status", "queued"))
}

func (c *call) cancelCampaign(p *campaign) answer {
	if p.status != "queued" && p.status != "running" {
		return refuse(http.StatusBadRequest, "Cannot cancel campaign in '%s' status", p.status)
	}
	c.s.campaignStatusLocked(p, "cancelled", "")
	return ok("status", "cancelled")
}

func (s *Server) campaignStatusLocked(p *campaign, status, reason string) {
	p.status = status
	if reason != "" {
		p.reason = reason
	}
	switch status {
	case "running":
		p.started = s.local()
	case "completed", "failed", "cancelled":
		p.ended = s.local()
	}
	s.bus.publish("status", p.id, newObject("status", status, "error", reason))
	s.wakeLocked()
}

func (s *Server) campaignLogLocked(p *campaign, format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	p.log = append(p.log, logRow{line, s.now()})
	s.bus.publish("log", p.id, newObject("line", line, "campaign_id", p.id))
}

// advanceLocked queues the campaign's next test, or ends it.
func (s *Server) advanceLocked(p *campaign) {
	if p.status == "cancelled" {
		s.cancelledLocked(p)
		return
	}
	if p.next == len(p.runs) {
		s.campaignLogLocked(p, "Campaign finished: %d succeeded, %d failed", p.good, p.bad)
		p.succeeded, p.failed = p.good, p.bad
		s.campaignStatusLocked(p, "completed", "")
		p.active = false
		return
	}
	r := p.runs[p.next]
	p.next++
	short := r.model[strings.LastIndexByte(r.model, '/')+1:]
	s.campaignLogLocked(p, "[%d/%d] Queuing: %s / %s / %s", p.next, p.total, short, r.engine, r.benchmark)
	t := &testRow{
		id: newID(), command_: newID(), agent: p.agent, model: r.model, engine: r.engine, benchmark: r.benchmark,
		suite: str(p.config.or("suite_name", "quick")), mode: r.mode, profile: r.profile, created: s.local(),
	}
	p.test, p.seen, p.queuedAt = t, "", s.now()
	s.addTestLocked(t)
	s.campaignLogLocked(p, "[%d/%d] Waiting for agent to pick up test...", p.next, p.total)
}

func (s *Server) cancelledLocked(p *campaign) {
	s.campaignLogLocked(p, "Campaign cancelled by user")
	p.active = false
}

// PollCampaigns makes every campaign check its test now. By itself it does so every
// Config.CampaignPoll.
func (s *Server) PollCampaigns() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.campaigns {
		if p.active {
			s.checkTestLocked(p)
		}
	}
}

// checkTestLocked reacts to the status of the campaign's current test.
func (s *Server) checkTestLocked(p *campaign) {
	if p.status == "cancelled" {
		s.cancelledLocked(p)
		return
	}
	status := p.test.status
	if status != p.seen && (status == "dispatched" || status == "running") {
		s.campaignLogLocked(p, "[%d/%d] Agent status: %s", p.next, p.total, status)
	}
	p.seen = status
	switch {
	case status == "completed":
		p.good++
		s.campaignLogLocked(p, "[%d/%d] Completed successfully", p.next, p.total)
	case status == "failed":
		p.bad++
		s.campaignLogLocked(p, "[%d/%d] Failed (failed)", p.next, p.total)
	case s.now().Sub(p.queuedAt) >= campaignTimeout:
		p.bad++
		s.campaignLogLocked(p, "[%d/%d] Timed out after %ds", p.next, p.total, int(campaignTimeout.Seconds()))
		s.campaignLogLocked(p, "[%d/%d] Failed (timeout)", p.next, p.total)
	default:
		return
	}
	s.advanceLocked(p)
}

// pollLocked starts the goroutine that polls campaigns unless it runs.
func (s *Server) pollLocked() {
	if s.polling || s.closed {
		return
	}
	s.polling = true
	s.polls.Go(func() {
		tick := time.NewTicker(s.cfg.CampaignPoll)
		defer tick.Stop()
		for {
			select {
			case <-s.done:
				return
			case <-tick.C:
				s.PollCampaigns()
			}
		}
	})
}
