package kittapitest

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// routes returns what answers the server's calls.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, h http.HandlerFunc) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			s.mu.Lock()
			s.requests[pattern]++
			s.mu.Unlock()
			h(w, r)
		})
	}
	operator := func(h http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if s.operator(w, r) {
				h(w, r)
			}
		}
	}
	const v1 = "/api/v1"
	handle("GET "+v1+"/health", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, map[string]any{"status": "ok"})
	})
	handle("GET /api/health", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, map[string]any{"status": "ok", "version": "1.7.0"})
	})
	handle("GET "+v1+"/version", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, map[string]any{"version": "1.7.0", "api_version": "v1", "name": "KITT"})
	})
	handle("POST "+v1+"/agents/register", s.register)
	handle("GET "+v1+"/agents/{$}", s.listAgents)
	handle("POST "+v1+"/agents/{id}/heartbeat", s.heartbeat)
	handle("POST "+v1+"/agents/{id}/results", s.postResult)
	handle("GET "+v1+"/agents/{id}", s.getAgent)
	handle("DELETE "+v1+"/agents/{id}", operator(s.deleteAgent))
	handle("GET "+v1+"/agents/{id}/settings", operator(s.getSettings))
	handle("PUT "+v1+"/agents/{id}/settings", operator(s.putSettings))
	handle("POST "+v1+"/agents/{id}/cleanup", operator(s.postCleanup))
	handle("POST "+v1+"/agents/{id}/rotate-token", operator(s.rotateToken))
	handle("POST "+v1+"/engines/agents/{id}/{what}", operator(s.postEngine))
	handle("POST "+v1+"/quicktest/{$}", operator(s.postLaunch))
	handle("GET "+v1+"/quicktest/{$}", s.listTests)
	handle("GET "+v1+"/quicktest/{id}", s.getTest)
	handle("GET "+v1+"/quicktest/{id}/logs", s.getLogs)
	handle("POST "+v1+"/quicktest/{id}/logs", operator(s.postLog))
	handle("POST "+v1+"/quicktest/{id}/status", operator(s.postStatus))
	handle("GET "+v1+"/results/{$}", s.listResults)
	handle("GET "+v1+"/events/stream", s.stream)
	handle("GET "+v1+"/events/stream/{id}", s.stream)
	handle("GET "+v1+"/agent/install.sh", s.installScript)
	for name, d := range map[string]download{
		"package":       {text: s.cfg.Package, name: "kitt-agent.tar.gz", missing: "Failed to build agent package"},
		"build-context": {text: s.cfg.BuildContext, name: "kitt-build-context.tar.gz", missing: "Failed to build context"},
	} {
		handle("GET "+v1+"/agent/"+name, d.serve)
		handle("GET "+v1+"/agent/"+name+"/sha256", d.digest)
	}
	return pages{mux}
}

// pages gives the errors of the router the form that they have on the server:
// HTML.
type pages struct{ mux *http.ServeMux }

func (p pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// A name with a slash cannot stand in an address, escaped or not.
	if path, err := url.PathUnescape(r.URL.EscapedPath()); err == nil && strings.Contains(strings.ToLower(r.URL.EscapedPath()), "%2f") {
		r = r.Clone(r.Context())
		r.URL.Path, r.URL.RawPath = path, ""
	}
	handler, pattern := p.mux.Handler(r)
	if pattern != "" {
		p.mux.ServeHTTP(w, r)
		return
	}
	probe := &probe{header: http.Header{}, status: http.StatusOK}
	handler.ServeHTTP(probe, r)
	page(w, probe.status)
}

// probe finds out which status a handler would answer with.
type probe struct {
	header http.Header
	status int
}

func (p *probe) Header() http.Header         { return p.header }
func (p *probe) WriteHeader(status int)      { p.status = status }
func (p *probe) Write(b []byte) (int, error) { return len(b), nil }

// answer sends v as JSON.
func answer(w http.ResponseWriter, status int, v any) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		page(w, http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the client may be gone
}

// fail sends an error of the API.
func fail(w http.ResponseWriter, status int, text string) {
	answer(w, status, map[string]string{"error": text})
}

// page sends an error that is none of the API's: an HTML page.
func page(w http.ResponseWriter, status int) {
	title := strconv.Itoa(status) + " " + http.StatusText(status)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, "<!doctype html>\n<html lang=en>\n<title>"+title+"</title>\n<h1>"+http.StatusText(status)+"</h1>\n")
}

// body reads a request's JSON. What is no JSON in UTF-8 with the right type, or
// is compressed, counts as absent, as for the real server: v is nil then.
func body(r *http.Request) (v any, raw []byte) {
	raw, err := io.ReadAll(r.Body)
	if err != nil || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		return nil, nil
	}
	if r.Header.Get("Content-Encoding") != "" || !utf8.Valid(raw) {
		return nil, nil
	}
	if decode(raw, &v) != nil {
		return nil, nil
	}
	return v, raw
}

// object reads a request's JSON object, an empty one if it is none.
func object(r *http.Request) (map[string]any, []byte) {
	v, raw := body(r)
	m, _ := v.(map[string]any)
	return m, raw
}

// loneSurrogate reports whether a JSON text escapes half a character, which
// breaks the real server.
func loneSurrogate(raw []byte) bool {
	high := false
	for i := 0; i+1 < len(raw); i++ {
		if raw[i] != '\\' {
			if high {
				return true
			}
			continue
		}
		if raw[i+1] != 'u' || i+6 > len(raw) {
			if high {
				return true
			}
			i++
			continue
		}
		n, err := strconv.ParseUint(string(raw[i+2:i+6]), 16, 16)
		isLow := err == nil && n >= 0xdc00 && n < 0xe000
		if high != isLow {
			return true
		}
		high = err == nil && n >= 0xd800 && n < 0xdc00
		i += 5
	}
	return high
}

// operator lets a request through that presents the operator's token, where the
// server has one.
func (s *Server) operator(w http.ResponseWriter, r *http.Request) bool {
	if s.cfg.AuthToken == "" {
		return true
	}
	token, ok := bearer(r)
	switch {
	case !ok:
		fail(w, 401, "Missing or invalid authorization")
	case !sameToken(token, s.cfg.AuthToken):
		fail(w, 403, "Invalid authentication token")
	default:
		return true
	}
	return false
}

// bearer returns the token that a request presents. The scheme's case counts.
func bearer(r *http.Request) (string, bool) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return token, ok && token != ""
}

func sameToken(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// text returns a field that is a text, or otherwise.
func text(m map[string]any, key, otherwise string) string {
	if t, ok := m[key].(string); ok {
		return t
	}
	return otherwise
}

// isInt reports whether v is a number that fits into 64 bits. Fractions are cut
// off, as pydantic 1 does.
func isInt(v any) bool {
	f, ok := v.(float64)
	return ok && math.Abs(f) < 1<<63
}

// download is a file that agents fetch.
type download struct {
	text          []byte
	name, missing string
}

func (d download) serve(w http.ResponseWriter, r *http.Request) {
	if d.text == nil {
		fail(w, 500, d.missing)
		return
	}
	w.Header().Set("Content-Type", "application/gzip")
	w.Header().Set("Content-Disposition", "attachment; filename="+d.name)
	http.ServeContent(w, r, d.name, time.Time{}, bytes.NewReader(d.text))
}

func (d download) digest(w http.ResponseWriter, _ *http.Request) {
	if d.text == nil {
		fail(w, 500, d.missing)
		return
	}
	sum := sha256.Sum256(d.text)
	answer(w, 200, map[string]string{"sha256": hexText(sum[:]), "filename": d.name})
}

// installScript fails as it does in KITT 1.7.0, after it has made or replaced
// the named agent's token.
func (s *Server) installScript(w http.ResponseWriter, r *http.Request) {
	port := r.URL.Query().Get("port")
	if port != "" {
		n, err := strconv.Atoi(port)
		if err != nil || n < 1 || n > 65535 {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.WriteHeader(400)
			_, _ = io.WriteString(w, "Port must be a number from 1 to 65535")
			return
		}
	}
	if name := r.URL.Query().Get("name"); name != "" {
		s.mu.Lock()
		a := s.names[name]
		if a == nil {
			a = s.addAgentLocked(name)
			a.Status = "provisioned"
		}
		a.token = randomHex(32)
		s.mu.Unlock()
	}
	page(w, 500)
}
