package kittapitest

import (
	"crypto/subtle"
	"mime"
	"net/http"
	"strings"
)

// A call is one request for a handler.
type call struct {
	s      *Server
	r      *http.Request
	id     string // the variable part of the path
	action string // the last part of the path
	body   []byte
	json   any // the parsed body; nil if it is missing or not JSON
}

// parseBody returns the body of r, or nil unless its type and content are JSON.
func parseBody(r *http.Request, body []byte) any {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != kindJSON && !(strings.HasPrefix(kind, "application/") && strings.HasSuffix(kind, "+json")) {
		return nil
	}
	v, err := parse(body)
	if err != nil {
		return nil
	}
	return v
}

// object returns the body, or nil and an answer if it is not an object. missing is
// the error for an empty body.
func (c *call) object(missing string) (object, answer) {
	if !truthy(c.json) {
		return nil, refuse(http.StatusBadRequest, "%s", missing)
	}
	o, isObject := c.json.(object)
	if !isObject {
		return nil, page(http.StatusInternalServerError)
	}
	return o, answer{}
}

// bearer returns the token of the request, or an empty string.
func (c *call) bearer() string {
	token, found := strings.CutPrefix(c.r.Header.Get("Authorization"), "Bearer ")
	if !found {
		return ""
	}
	return token
}

type handler = func(*call) answer

// locked runs next with the server's lock.
func locked(next handler) handler {
	return func(c *call) answer {
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		return next(c)
	}
}

// withAgent runs next with the server's lock and the agent that the path names by
// id.
func withAgent(next func(*call, *agentRow) answer) handler {
	return locked(func(c *call) answer {
		if a := c.s.agents[c.id]; a != nil {
			return next(c, a)
		}
		return refuse(http.StatusNotFound, "Agent not found")
	})
}

// asAgent runs next with the server's lock and the agent that the path names by id
// or name, if the request has that agent's token.
func asAgent(next func(*call, *agentRow) answer) handler {
	return locked(func(c *call) answer {
		a := c.s.findAgentLocked(c.id)
		if a == nil {
			return refuse(http.StatusNotFound, "Agent not found")
		}
		if denied, may := a.authorize(c.bearer()); !may {
			return denied
		}
		return next(c, a)
	})
}

// withTest runs next with the server's lock and the test that the path names.
func withTest(next func(*call, *testRow) answer) handler {
	return locked(func(c *call) answer {
		if t := c.s.tests[c.id]; t != nil {
			return next(c, t)
		}
		return refuse(http.StatusNotFound, "Quick test not found")
	})
}

// withCampaign runs next with the server's lock and the campaign that the path
// names.
func withCampaign(next func(*call, *campaign) answer) handler {
	return locked(func(c *call) answer {
		if p := c.s.campaigns[c.id]; p != nil {
			return next(c, p)
		}
		return refuse(http.StatusNotFound, "Campaign not found")
	})
}

// operator wraps a handler that requires the server's token.
func operator(next handler) handler {
	return func(c *call) answer {
		want := c.s.cfg.AuthToken
		if want == "" {
			return next(c)
		}
		header := c.r.Header.Get("Authorization")
		if !strings.HasPrefix(header, "Bearer ") {
			return refuse(http.StatusUnauthorized, "Missing or invalid authorization")
		}
		if strings.ContainsFunc(header, func(r rune) bool { return r > '~' }) {
			return page(http.StatusInternalServerError)
		}
		if subtle.ConstantTimeCompare([]byte(c.bearer()), []byte(want)) != 1 {
			return refuse(http.StatusForbidden, "Invalid authentication token")
		}
		return next(c)
	}
}

// A route is a path of the API; * stands for any one part.
type route struct {
	pattern string
	methods methods
}

type methods = map[string]handler

var routes = []route{
	{"health", methods{"GET": (*call).health}},
	{"version", methods{"GET": (*call).version}},
	{"agents/register", methods{"POST": locked((*call).register)}},
	{"agents/", methods{"GET": locked((*call).listAgents)}},
	{"agents/*", methods{"GET": withAgent((*call).getAgent), "DELETE": operator(withAgent((*call).deleteAgent)), "PATCH": operator(locked((*call).patchAgent))}},
	{"agents/*/heartbeat", methods{"POST": asAgent((*call).heartbeat)}},
	{"agents/*/results", methods{"POST": asAgent((*call).report)}},
	{"agents/*/settings", methods{"GET": operator(withAgent((*call).getSettings)), "PUT": operator(withAgent((*call).putSettings))}},
	{"agents/*/cleanup", methods{"POST": operator(withAgent((*call).cleanup))}},
	{"agents/*/rotate-token", methods{"POST": operator(withAgent((*call).rotate))}},
	{"engines/agents/*/install", methods{"POST": operator(locked((*call).engine))}},
	{"engines/agents/*/start", methods{"POST": operator(locked((*call).engine))}},
	{"engines/agents/*/stop", methods{"POST": operator(locked((*call).engine))}},
	{"quicktest/", methods{"GET": locked((*call).listTests), "POST": operator(locked((*call).launch))}},
	{"quicktest/*", methods{"GET": withTest((*call).getTest)}},
	{"quicktest/*/logs", methods{"GET": (*call).getLogs, "POST": operator(withTest((*call).postLog))}},
	{"quicktest/*/status", methods{"POST": operator(withTest((*call).postStatus))}},
	{"results/", methods{"GET": locked((*call).listResults)}},
	{"results/*", methods{"GET": locked((*call).getResult), "DELETE": operator(locked((*call).deleteResult))}},
	{"campaigns/", methods{"GET": locked((*call).listCampaigns), "POST": operator(locked((*call).createCampaign))}},
	{"campaigns/*", methods{"GET": withCampaign((*call).getCampaign)}},
	{"campaigns/*/launch", methods{"POST": operator(withCampaign((*call).launchCampaign))}},
	{"campaigns/*/cancel", methods{"POST": operator(withCampaign((*call).cancelCampaign))}},
	{"campaigns/*/logs", methods{"GET": locked((*call).campaignLogs)}},
	{"events/stream", methods{"GET": (*call).stream}},
	{"events/stream/*", methods{"GET": (*call).stream}},
	{"agent/install.sh", methods{"GET": (*call).installScript}},
	{"agent/package", methods{"GET": (*call).download}},
	{"agent/package/sha256", methods{"GET": (*call).digest}},
	{"agent/build-context", methods{"GET": (*call).download}},
	{"agent/build-context/sha256", methods{"GET": (*call).digest}},
}

// table has the routes by their number of slashes, so that a request is compared
// with few of them.
var table = func() map[int][]route {
	byLength := map[int][]route{}
	for _, r := range routes {
		n := strings.Count(r.pattern, "/")
		byLength[n] = append(byLength[n], r)
	}
	return byLength
}()

// handle answers a request.
func (s *Server) handle(r *http.Request, body []byte) answer {
	if r.URL.Path == "/api/health" {
		s.count(r.Method + " /api/health")
		return ok("status", "ok", "version", s.cfg.Version)
	}
	if r.URL.Path == "/agents/create-test" && r.Method == http.MethodPost {
		s.count("POST /agents/create-test")
		return (&call{s: s, r: r, body: body}).createTestAgent()
	}
	path, found := strings.CutPrefix(r.URL.Path, "/api/v1/")
	if !found {
		return page(http.StatusNotFound)
	}
	for _, route := range table[strings.Count(path, "/")] {
		id, fits := match(route.pattern, path)
		if !fits {
			continue
		}
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		handler := route.methods[method]
		if handler == nil {
			return page(http.StatusMethodNotAllowed)
		}
		s.count(method + " /api/v1/" + strings.Replace(route.pattern, "*", "{id}", 1))
		return handler(&call{s: s, r: r, id: id, action: lastPart(path), body: body, json: parseBody(r, body)})
	}
	for _, route := range table[strings.Count(path, "/")+1] {
		if route.pattern == path+"/" {
			a := page(http.StatusPermanentRedirect)
			a.header = http.Header{"Location": {r.URL.Path + "/"}}
			return a
		}
	}
	return page(http.StatusNotFound)
}

func (s *Server) count(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[name]++
}

// match returns the part of path at pattern's *, and whether path matches pattern.
func match(pattern, path string) (id string, fits bool) {
	head, tail, varies := strings.Cut(pattern, "*")
	if !varies {
		return "", pattern == path
	}
	if !strings.HasPrefix(path, head) || !strings.HasSuffix(path, tail) || len(path) <= len(head)+len(tail) {
		return "", false
	}
	id = path[len(head) : len(path)-len(tail)]
	return id, !strings.Contains(id, "/")
}

func (c *call) health() answer { return ok("status", "ok") }

func (c *call) version() answer {
	return ok("version", c.s.cfg.Version, "api_version", "v1", "name", "KITT")
}
