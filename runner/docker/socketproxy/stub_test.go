package socketproxy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/stretchr/testify/require"
)

// IDs of the containers that the stub has.
var (
	mine   = strings.Repeat("a", 64) // the job's own
	theirs = strings.Repeat("b", 64) // somebody else's
	kittID = strings.Repeat("c", 64) // the benchmark's own
	myExec = strings.Repeat("d", 64)
	noExID = strings.Repeat("e", 64) // an exec in theirs
)

// A request is what reached the stub.
type request struct {
	method, uri string
	header      http.Header
	body        string
}

// A stub plays the engine and records the requests that change something.
type stub struct {
	mu   sync.Mutex
	got  []request
	list string // answer to a list
}

func (s *stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.got = append(s.got, request{r.Method, r.RequestURI, r.Header.Clone(), string(body)})
	list := s.list
	s.mu.Unlock()
	w.Header().Set("Api-Version", "1.41")
	w.Header().Set("X-Secret", "of the engine")
	path := strings.TrimPrefix(r.URL.Path, "/v1.41")
	one := func(id, label string) {
		fmt.Fprintf(w, `{"Id":%q,"Config":{"Labels":{%q:"job-1"}}}`, id, label)
	}
	switch r.Method + " " + path {
	case "GET /containers/" + mine + "/json", "GET /containers/kitt-1-job-1/json", "GET /containers/kitt-1764403200-job-1/json", "GET /containers/aaaa/json":
		one(mine, LabelEngine)
	case "GET /containers/" + theirs + "/json", "GET /containers/theirs/json":
		one(theirs, "somebody.else")
	case "GET /containers/" + kittID + "/json":
		one(kittID, "io.kitt.command")
	case "GET /exec/" + myExec + "/json":
		fmt.Fprintf(w, `{"ID":%q,"ContainerID":%q}`, myExec, mine)
	case "GET /exec/" + noExID + "/json":
		fmt.Fprintf(w, `{"ID":%q,"ContainerID":%q}`, noExID, theirs)
	case "GET /containers/json":
		io.WriteString(w, list)
	case "GET /info":
		io.WriteString(w, `{"ServerVersion":"20.10","NCPU":2,"HttpProxy":"http://user:secret@proxy","Containers":7}`)
	case "POST /containers/create":
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"Id":%q}`, mine)
	default:
		if strings.HasSuffix(path, "/json") && strings.HasPrefix(path, "/containers/") {
			http.Error(w, `{"message":"No such container"}`, http.StatusNotFound)
			return
		}
		io.WriteString(w, `{}`)
	}
}

// changes returns the requests that reached the engine and were not looks.
func (s *stub) changes() []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []request
	for _, r := range s.got {
		if r.method != http.MethodGet && r.method != http.MethodHead {
			all = append(all, r)
		}
	}
	return all
}

func (s *stub) last() request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got[len(s.got)-1]
}

// newProxy returns a proxy of the job job-1 in front of a stub.
func newProxy(t testing.TB, change func(*Policy)) (*stub, *Proxy) {
	s := &stub{list: `[]`}
	engine := httptest.NewServer(s)
	t.Cleanup(engine.Close)
	policy := Policy{
		Version: policyVersion, Job: "job-1", Engine: "tcp://" + engine.Listener.Addr().String(), Images: DefaultImages(),
		ShmMax: 4 << 30, Pids: DefaultPids, Network: NetworkHost, GPUs: []string{"all"},
	}
	if change != nil {
		change(&policy)
	}
	p, err := New(policy, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return s, p
}

// ask sends the proxy a request and returns its answer's status and body.
func ask(p *Proxy, method, uri, body string) (int, string) {
	var from io.Reader
	if body != "" {
		from = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, "http://docker"+uri, from)
	r.RequestURI = uri
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// created returns the container that the engine was asked for.
func created(t testing.TB, s *stub) container.CreateRequest {
	t.Helper()
	got := s.changes()
	require.Len(t, got, 1)
	var c container.CreateRequest
	decoder := json.NewDecoder(bytes.NewReader([]byte(got[0].body)))
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(&c))
	return c
}

// httpRequest returns a request whose path no library has looked at.
func httpRequest(method, uri string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "http://docker/", nil)
	r.Method, r.RequestURI = method, uri
	return r
}

// A recorder is a ResponseWriter that keeps the answer.
type recorder struct {
	status int
	header http.Header
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header {
	if w.header == nil {
		w.header = http.Header{}
	}
	return w.header
}

func (w *recorder) WriteHeader(status int) { w.status = status }

func (w *recorder) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.body.Write(p)
}
