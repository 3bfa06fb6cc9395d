// Package webpage is the agent's page for people: what the machine does now, its logs,
// GPUs, jobs, models, checks and settings, for a phone in the server room or a laptop at
// the end of a tunnel.
//
//	cfg.Page = func(a *agent.Agent) http.Handler { return webpage.New(webpage.Config{Agent: a}) }
//
// The API then serves it at the paths that it doesn't have. A program that has a server
// of its own mounts it below a prefix instead; see [Config.Prefix].
//
// # Structure
//
// The page reads the agent through its public methods, and changes nothing but a job
// that it cancels. Each view is a template (pages) and a function that collects what it
// shows (views.go, jobs.go, machine.go). Views are whole without scripts. static/page.js
// keeps them up to date: it listens to one stream of events (events.go), which say only
// that there is news, and fetches its view again. Figures of the GPUs come in the stream
// itself, charts begin with the last hour of them (gpus.go). Logs are those of the API.
// The frame, the look and the scripts that show any live page or log are of
// internal/web, which the control plane of examples/controlplane uses too.
//
// Nothing runs without a viewer: what a viewer costs lives in the handlers of its
// requests. A tab that is in the background closes its streams. GPUs are read once a
// second for all viewers together, and less often if that would take more than 1 % of
// the time (agent.ReadGPUs). Files are read with a limit on time and number (disk.go),
// so that a dead disk takes no view with it.
//
// # Who is let in
//
// Every request passes agent.Guard, which refuses what a page of another origin sends.
// Then the rules of the API hold. An agent without a token lets in callers on its own
// machine. With a token, a login exchanges it for a cookie (session.go): HttpOnly,
// SameSite=Strict, with an end and a MAC whose key comes from the token. So nothing is
// stored, a restart of the agent ends no session, and a new token ends all of them.
// Whatever changes something also needs the session's CSRF token, in a header. Scripts
// and styles come from files alone (Content-Security-Policy), and texts of jobs, servers
// and machines reach the page only as text.
package webpage

import (
	"context"
	"crypto/rand"
	"embed"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/health"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/internal/web"
	"github.com/kirizan/kitt-agent/preflight"
	"github.com/kirizan/kitt-agent/storage"
)

// Config says what a page shows. Agent is required.
type Config struct {
	// Agent is what the page shows.
	Agent *agent.Agent

	// Prefix is where the page is mounted, such as /gpu-1: with a slash at its
	// beginning and none at its end. The requests' paths begin with it. Empty means at
	// the root.
	Prefix string

	// Models, if set, lists the copies of models, as storage.Local.List does.
	Models func(context.Context) ([]storage.Copy, error)

	// Preflight, if set, checks whether the machine has what the agent needs. It is
	// called when somebody looks at the checks, the last ones are 10 minutes old and
	// no job runs. It must start no container and change nothing.
	Preflight func(context.Context) ([]preflight.Result, error)

	// Settings, if set, returns the settings of the program that embeds the agent.
	Settings func() []Setting

	// Logger receives errors that are not the viewer's. Defaults to none.
	Logger *slog.Logger
}

// A Setting is one setting in force.
type Setting struct {
	Name    string
	Value   string // as text; a secret is not shown, not even here
	Source  string // where the value comes from: default, or such as /etc/kitt/agent.yaml:3
	Meaning string
}

//go:embed pages static
var files embed.FS

// A Page serves the page. Its methods are safe for concurrent use.
type Page struct {
	cfg     Config
	a       *agent.Agent
	api     http.Handler // the agent's
	pages   web.Pages
	handler http.Handler
	keyless []byte // key of CSRF tokens while the agent has no token
	cookie  func() string
	viewers atomic.Int64
	disk    diskReader
	checks  checks
}

var _ http.Handler = (*Page)(nil)

// New returns the page of cfg.Agent. It starts nothing.
func New(cfg Config) *Page {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Prefix = strings.TrimRight(cfg.Prefix, "/")
	p := &Page{cfg: cfg, a: cfg.Agent, api: cfg.Agent.Handler(), keyless: make([]byte, 32), disk: newDiskReader()}
	_, _ = rand.Read(p.keyless) // it never fails
	p.checks.run = cfg.Preflight
	p.cookie = sync.OnceValue(p.cookieName)
	p.pages = web.ParsePages(files, template.FuncMap{
		"size": base.Size, "rate": rate, "span": span, "steps": steps, "percent": percent, "took": took,
		"reason": reasonText, "copystate": copyState, "active": isActive, "seconds": seconds,
		"contains": strings.Contains, "tab": tabOf, "history": historyOf,
	}, viewNames...)
	static, err := fs.Sub(files, "static")
	if err != nil {
		panic(err) // the folder is embedded above
	}
	mux := http.NewServeMux()
	mux.Handle("GET "+cfg.Prefix+"/static/", http.StripPrefix(cfg.Prefix+"/static/", web.Files(static)))
	for path, view := range map[string]func(*http.Request, agent.Status) view{
		"/{$}": p.now, "/gpus": p.gpus, "/jobs": p.jobs, "/jobs/{id}": p.job, "/compare": p.compare,
		"/models": p.models, "/machine": p.machine, "/settings": p.settings, "/": p.missing,
	} {
		mux.HandleFunc("GET "+cfg.Prefix+path, p.show(view))
	}
	mux.HandleFunc("GET "+cfg.Prefix+"/login", p.getLogin)
	mux.HandleFunc("POST "+cfg.Prefix+"/login", p.postLogin)
	mux.HandleFunc("POST "+cfg.Prefix+"/logout", p.changes(p.postLogout))
	mux.HandleFunc("POST "+cfg.Prefix+"/jobs/{id}/cancel", p.changes(p.postCancel))
	mux.HandleFunc("GET "+cfg.Prefix+"/jobs/{id}/log", p.reads(p.getLog))
	mux.HandleFunc("GET "+cfg.Prefix+"/jobs/{id}/chart.svg", p.reads(p.getChart))
	mux.HandleFunc("GET "+cfg.Prefix+"/events", p.reads(p.getEvents))
	mux.HandleFunc("GET "+cfg.Prefix+"/gpus.json", p.reads(p.getGPUs))
	p.handler = p.a.Guard(web.Secure(mux))
	return p
}

// ServeHTTP serves the page.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.handler.ServeHTTP(w, r) }

// A view is what a template shows.
type view struct {
	status int    // of the answer; 0 means 200
	name   string // of the template
	here   string // the part of the page that it belongs to
	data   any
}

// A frame is what the templates get: a view with what is around all of them.
type frame struct {
	Base   string // prefix of all links
	Here   string
	Now    time.Time
	Status agent.Status
	State  state
	CSRF   string // empty where nobody is logged in
	Leave  bool   // whether there is a session to end
	View   any
}

// A state is the agent's in a word, and its class.
type state struct{ Class, Word string }

func stateOf(s agent.Status) state {
	_, blocked := health.Blocking(s.Problems)
	switch {
	case s.Draining:
		return state{"draining", "stopping once idle"}
	case blocked:
		return state{"degraded", "degraded"}
	case s.Running:
		return state{"running", "running"}
	}
	return state{"idle", "idle"}
}

// A tab is a link to a view.
type tab struct {
	Href, Text string
	Current    bool
}

func tabOf(f frame, here, path, text string) tab { return tab{f.Base + path, text, f.Here == here} }

// A history is rows of ended jobs, which can be chosen for a comparison or not.
type history struct {
	Base   string
	Rows   []agent.JobStatus
	Choose bool
}

func historyOf(f frame, rows []agent.JobStatus, choose bool) history {
	return history{f.Base, rows, choose}
}

// show serves a view to those who are let in, and sends others to the login.
func (p *Page) show(collect func(*http.Request, agent.Status) view) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s, ok := p.admit(r)
		switch {
		case ok:
			status := p.a.Status()
			p.render(w, collect(r, status), status, s)
		case p.a.CallerToken() == "":
			p.pages.Show(w, http.StatusUnauthorized, "login", p.loginFrame(r))
		default:
			http.Redirect(w, r, p.cfg.Prefix+"/login?"+nextPage(r), http.StatusSeeOther)
		}
	}
}

func (p *Page) render(w http.ResponseWriter, v view, status agent.Status, s session) {
	if v.status == 0 {
		v.status = http.StatusOK
	}
	p.pages.Show(w, v.status, v.name, frame{
		Base: p.cfg.Prefix, Here: v.here, Now: time.Now(), Status: status, State: stateOf(status),
		CSRF: s.csrf, Leave: !s.expires.IsZero(), View: v.data,
	})
}

// reads lets those in who may see something.
func (p *Page) reads(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if _, ok := p.admit(r); !ok {
			http.Error(w, "Unauthorized: log in at "+p.cfg.Prefix+"/login", http.StatusUnauthorized)
			return
		}
		next(w, r)
	}
}

// changes lets those in who may change something: the request bears the session's CSRF
// token too.
func (p *Page) changes(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s, ok := p.admit(r)
		switch {
		case !ok:
			http.Error(w, "Unauthorized: log in at "+p.cfg.Prefix+"/login", http.StatusUnauthorized)
		case !equal(r.Header.Get("X-CSRF-Token"), s.csrf):
			http.Error(w, "Forbidden: the page is out of date; reload it", http.StatusForbidden)
		default:
			next(w, r)
		}
	}
}

// asAPI returns r as a request to the agent's API for path, with the agent's token.
func (p *Page) asAPI(r *http.Request, path string) *http.Request {
	to := r.Clone(r.Context())
	to.URL.RawPath, to.URL.RawQuery = path, ""
	to.URL.Path = unescape(path)
	to.Header.Del("Cookie")
	if token := p.a.CallerToken(); token != "" {
		to.Header.Set("Authorization", "Bearer "+token.Reveal())
	}
	return to
}
