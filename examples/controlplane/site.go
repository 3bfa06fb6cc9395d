package main

import (
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"slices"
	"strings"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/internal/web"
	"github.com/kirizan/kitt-agent/runner/simulated"
)

//go:embed pages static
var files embed.FS

// A site is the pages. What changes on them while they are looked at comes by
// the same API that agents and harnesses use.
type site struct {
	plane *kittapitest.Server
	pages web.Pages
}

// handler serves the pages, and the control plane's API below /api/.
func handler(plane *kittapitest.Server) http.Handler {
	s := &site{plane: plane, pages: parsePages()}
	static, err := fs.Sub(files, "static")
	if err != nil {
		panic(err) // the folder is embedded above
	}
	mux := http.NewServeMux()
	mux.Handle("/api/", plane)
	mux.Handle("GET /static/", http.StripPrefix("/static/", web.Files(static)))
	mux.HandleFunc("GET /{$}", s.agents)
	mux.HandleFunc("GET /agents/create-test", s.newAgent)
	mux.HandleFunc("POST /agents/create-test", s.createAgent)
	mux.HandleFunc("GET /agents/{id}", s.agent)
	mux.HandleFunc("POST /agents/{id}/tests", s.launch)
	mux.HandleFunc("GET /tests", s.tests)
	mux.HandleFunc("GET /tests/{id}", s.test)
	mux.HandleFunc("GET /results", s.results)
	mux.HandleFunc("GET /results/{id}", s.result)
	// Another site that is open in the same browser may not press our buttons.
	return web.Secure(http.NewCrossOriginProtection().Handler(mux))
}

// parsePages reads the templates.
func parsePages() web.Pages {
	return web.ParsePages(files, template.FuncMap{"ended": ended}, "agents", "newagent", "agent", "tests", "test", "results", "result", "fault")
}

func (s *site) missing(w http.ResponseWriter, what string) {
	s.pages.Show(w, http.StatusNotFound, "fault", "There is no such "+what+". What the control plane knows is gone when it is stopped.")
}

func (s *site) agents(w http.ResponseWriter, r *http.Request) {
	s.pages.Show(w, http.StatusOK, "agents", struct {
		Agents []kittapitest.AgentInfo
		URL    string
	}{s.plane.Agents(), "http://" + r.Host})
}

// A form is what somebody typed, and what is wrong with it.
type form struct {
	Values       map[string]string
	Fault        string
	GPUs         []string // to choose from, as the next two
	Arches       []string
	Environments []string
}

func newForm(r *http.Request) form {
	f := form{
		Values: map[string]string{
			"name": "", "gpu_info": "NVIDIA RTX 4090 24GB", "gpu_count": "1", "cpu_info": "Intel Core i9-13900K",
			"cpu_arch": "x86_64", "ram_gb": "64", "environment_type": "native_linux",
		},
		Arches:       []string{"x86_64", "aarch64"},
		Environments: []string{"native_linux", "docker", "container", "wsl2", "dgx", "dgx_spark", "native_macos"},
	}
	for name := range f.Values {
		if r.PostForm.Has(name) {
			f.Values[name] = strings.TrimSpace(r.PostForm.Get(name))
		}
	}
	for _, gpu := range simulated.KnownGPUs() {
		f.GPUs = append(f.GPUs, fmt.Sprintf("%s %dGB", gpu.Model, gpu.MemoryBytes>>30))
	}
	return f
}

func (s *site) newAgent(w http.ResponseWriter, r *http.Request) {
	s.pages.Show(w, http.StatusOK, "newagent", newForm(r))
}

// maxForm is the most that a form may hold, in bytes.
const maxForm = 64 << 10

// createAgent hands the form on to the control plane, which has one of its own.
func (s *site) createAgent(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		s.pages.Show(w, http.StatusBadRequest, "fault", "The form cannot be read: "+err.Error())
		return
	}
	f := newForm(r)
	id, err := s.plane.CreateTestAgent(r.PostForm)
	if err != nil {
		f.Fault = err.Error()
		s.pages.Show(w, http.StatusBadRequest, "newagent", f)
		return
	}
	http.Redirect(w, r, "/agents/"+id, http.StatusSeeOther)
}

type agentPage struct {
	Agent kittapitest.AgentInfo
	Tests []kittapitest.Test
	Fault string
}

func (s *site) agentPage(id string) (agentPage, bool) {
	a, ok := s.plane.Agent(id)
	p := agentPage{Agent: a}
	for _, t := range s.newestTests() {
		if t.AgentID == a.ID {
			p.Tests = append(p.Tests, t)
		}
	}
	return p, ok
}

func (s *site) agent(w http.ResponseWriter, r *http.Request) {
	p, ok := s.agentPage(r.PathValue("id"))
	if !ok {
		s.missing(w, "agent")
		return
	}
	s.pages.Show(w, http.StatusOK, "agent", p)
}

func (s *site) launch(w http.ResponseWriter, r *http.Request) {
	p, ok := s.agentPage(r.PathValue("id"))
	if !ok {
		s.missing(w, "agent")
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	model := strings.TrimSpace(r.PostFormValue("model"))
	if model == "" {
		p.Fault = "A model is needed: a path, or a name such as Qwen2.5-7B."
		s.pages.Show(w, http.StatusBadRequest, "agent", p)
		return
	}
	id, _, err := s.plane.Launch(p.Agent.ID, model, func(t *kittapitest.Test) {
		t.Engine, t.Suite = r.PostFormValue("engine"), r.PostFormValue("suite")
	})
	if err != nil {
		p.Fault = err.Error()
		s.pages.Show(w, http.StatusBadRequest, "agent", p)
		return
	}
	http.Redirect(w, r, "/tests/"+id, http.StatusSeeOther)
}

// newestTests returns the tests, the last one first.
func (s *site) newestTests() []kittapitest.Test {
	tests := s.plane.Tests()
	slices.Reverse(tests)
	return tests
}

func (s *site) tests(w http.ResponseWriter, _ *http.Request) {
	s.pages.Show(w, http.StatusOK, "tests", s.newestTests())
}

func (s *site) test(w http.ResponseWriter, r *http.Request) {
	t, ok := s.plane.Test(r.PathValue("id"))
	if !ok {
		s.missing(w, "test")
		return
	}
	p := struct {
		Test   kittapitest.Test
		Rows   []string // for browsers without scripts
		Result *web.Outcome
	}{t, s.plane.Rows(t.ID), nil}
	for _, report := range s.plane.Reports() {
		if report.CommandID == t.CommandID && report.Data != nil {
			p.Result = web.NewOutcome(report.Data)
		}
	}
	s.pages.Show(w, http.StatusOK, "test", p)
}

func (s *site) results(w http.ResponseWriter, _ *http.Request) {
	var all []*web.Outcome
	for _, data := range s.plane.Results() {
		all = append(all, web.NewOutcome(data))
	}
	slices.Reverse(all)
	s.pages.Show(w, http.StatusOK, "results", all)
}

func (s *site) result(w http.ResponseWriter, r *http.Request) {
	for _, data := range s.plane.Results() {
		if data["id"] == r.PathValue("id") {
			s.pages.Show(w, http.StatusOK, "result", web.NewOutcome(data))
			return
		}
	}
	s.missing(w, "result")
}

func ended(status string) bool { return status == "completed" || status == "failed" }
