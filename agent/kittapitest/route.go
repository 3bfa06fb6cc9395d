package kittapitest

import (
	"crypto/subtle"
	"mime"
	"net/http"
	"strings"
)

// A call is one request that found its handler.
type call struct {
	s      *Server
	r      *http.Request
	id     string // the part of the path that varies
	action string // the part behind it
	body   []byte
}

// json returns the request's body, nil where there is none, or where it is not
// called or encoded as JSON.
func (c *call) json() any {
	kind, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil || kind != kindJSON && !(strings.HasPrefix(kind, "application/") && strings.HasSuffix(kind, "+json")) {
		return nil
	}
	v, err := parse(c.body)
	if err != nil {
		return nil
	}
	return v
}

// bearer returns the token of the request, empty if there is none.
func (c *call) bearer() string {
	token, _ := strings.CutPrefix(c.r.Header.Get("Authorization"), "Bearer ")
	if !strings.HasPrefix(c.r.Header.Get("Authorization"), "Bearer ") {
		return ""
	}
	return token
}

// operator wraps a handler that wants the server's token.
func operator(next func(*call) answer) func(*call) answer {
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

// A route is one address of the API; * stands for any one part.
type route struct {
	pattern string
	methods map[string]func(*call) answer
}

type methods = map[string]func(*call) answer

var routes = []route{
	{"health", methods{"GET": (*call).health}},
	{"version", methods{"GET": (*call).version}},
	{"agents/register", methods{"POST": (*call).register}},
	{"agents/", methods{"GET": (*call).listAgents}},
	{"agents/*", methods{"GET": (*call).getAgent, "DELETE": operator((*call).deleteAgent), "PATCH": operator((*call).patchAgent)}},
	{"agents/*/heartbeat", methods{"POST": (*call).heartbeat}},
	{"agents/*/results", methods{"POST": (*call).report}},
	{"agents/*/settings", methods{"GET": operator((*call).getSettings), "PUT": operator((*call).putSettings)}},
	{"agents/*/cleanup", methods{"POST": operator((*call).cleanup)}},
	{"agents/*/rotate-token", methods{"POST": operator((*call).rotate)}},
	{"engines/agents/*/install", methods{"POST": operator((*call).engine)}},
	{"engines/agents/*/start", methods{"POST": operator((*call).engine)}},
	{"engines/agents/*/stop", methods{"POST": operator((*call).engine)}},
	{"quicktest/", methods{"GET": (*call).listTests, "POST": operator((*call).launch)}},
	{"quicktest/*", methods{"GET": (*call).getTest}},
	{"quicktest/*/logs", methods{"GET": (*call).getLogs, "POST": operator((*call).postLog)}},
	{"quicktest/*/status", methods{"POST": operator((*call).postStatus)}},
	{"results/", methods{"GET": (*call).listResults}},
	{"results/*", methods{"GET": (*call).getResult, "DELETE": operator((*call).deleteResult)}},
	{"campaigns/", methods{"GET": (*call).listCampaigns, "POST": operator((*call).createCampaign)}},
	{"campaigns/*", methods{"GET": (*call).getCampaign}},
	{"campaigns/*/launch", methods{"POST": operator((*call).launchCampaign)}},
	{"campaigns/*/cancel", methods{"POST": operator((*call).cancelCampaign)}},
	{"campaigns/*/logs", methods{"GET": (*call).campaignLogs}},
	{"events/stream", methods{"GET": (*call).stream}},
	{"events/stream/*", methods{"GET": (*call).stream}},
	{"agent/install.sh", methods{"GET": (*call).installScript}},
	{"agent/package", methods{"GET": (*call).download}},
	{"agent/package/sha256", methods{"GET": (*call).digest}},
	{"agent/build-context", methods{"GET": (*call).download}},
	{"agent/build-context/sha256", methods{"GET": (*call).digest}},
}

// table finds the routes by their number of parts, so that no request looks at
// all of them.
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
		return handler(&call{s: s, r: r, id: id, action: path[strings.LastIndexByte(path, '/')+1:], body: body})
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

// count counts a call.
func (s *Server) count(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[name]++
}

// match returns the part of path that pattern's * stands for, and whether the
// pattern fits.
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
