package kittapitest

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kirizan/kitt-agent/runner/simulated"
)

// Config configures a Server. The zero value is a KITT server 1.7.0 without an
// operator's token.
type Config struct {
	// Addr is the host and port to listen on. Defaults to a free port of
	// 127.0.0.1.
	Addr string

	// TLS serves https instead of http, for example with the result of [NewTLS].
	// Defaults to http.
	TLS *tls.Config

	// AuthToken is the operator's token. Defaults to none: every request has the
	// operator's rights.
	AuthToken string

	// Version is the version that the server reports. Defaults to 1.7.0.
	Version string

	// Now is the server's clock, in the server's time zone. Defaults to time.Now.
	Now func() time.Time

	// Keepalive is how long an event stream sends nothing before it sends a
	// keepalive. Defaults to 30 s.
	Keepalive time.Duration

	// CampaignPoll is the interval at which a campaign checks its test. Defaults
	// to 5 s.
	CampaignPoll time.Duration

	// Package is the agent package for download. If it is empty the server cannot
	// build one, as in a plain installation.
	Package []byte

	// BuildContext is the Docker build context, a gzip tar. Defaults to one with
	// only a Dockerfile.
	BuildContext []byte

	// TestAgents configures the simulation of test agents' tests: seed, scenario
	// and delays. The zero value has no delays; Speed 1 has those of the real
	// server. Hardware and WriteFile are ignored.
	TestAgents simulated.Config

	// KeepRequests is the number of requests that [Server.RequestLog] keeps.
	// Defaults to 10,000.
	KeepRequests int
}

// Limits of what the server keeps and accepts.
const (
	defaultKeepRequests = 10_000
	keepBody            = 4 << 10  // bytes of a request's body in its record
	maxBody             = 64 << 20 // bytes of a request's body; the real server has no limit
	keepBeats           = 256      // beats of an agent
)

// A Server is a KITT control plane that keeps everything in memory. Its methods
// are safe for concurrent use.
type Server struct {
	// URL is the server's address, such as http://127.0.0.1:41234. It is empty for
	// a server of New, which does not listen.
	URL string

	cfg      Config
	http     *http.Server
	pipes    *pipeListener // nil unless it is in memory
	serving  sync.WaitGroup
	requests sync.WaitGroup // being answered
	polls    sync.WaitGroup // the goroutine that polls campaigns
	plays    sync.WaitGroup // simulations of test agents' tests
	done     chan struct{}  // closed by Close

	skew atomic.Int64 // of its clock, in nanoseconds

	mu        sync.Mutex // guards the fields below
	closed    bool
	polling   bool
	down      bool
	cut       chan struct{} // closed when the server goes down
	fault     func(*http.Request) Fault
	changed   chan struct{} // closed at the next change
	agents    map[string]*agentRow
	names     map[string]*agentRow
	tests     map[string]*testRow
	order     []*testRow // in order of creation
	results   []*resultRow
	byModel   map[string][]*resultRow
	reports   []Report
	breaches  []string
	campaigns map[string]*campaign
	record    ring
	calls     map[string]int
	bus       bus
}

// New returns a server that is an http.Handler and does not listen.
func New(cfg Config) *Server {
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	if cfg.Version == "" {
		cfg.Version = "1.7.0"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Keepalive == 0 {
		cfg.Keepalive = 30 * time.Second
	}
	if cfg.CampaignPoll == 0 {
		cfg.CampaignPoll = 5 * time.Second
	}
	if cfg.KeepRequests == 0 {
		cfg.KeepRequests = defaultKeepRequests
	}
	if cfg.BuildContext == nil {
		cfg.BuildContext = smallBuildContext()
	}
	s := &Server{
		cfg:       cfg,
		done:      make(chan struct{}),
		cut:       make(chan struct{}),
		changed:   make(chan struct{}),
		agents:    map[string]*agentRow{},
		names:     map[string]*agentRow{},
		tests:     map[string]*testRow{},
		byModel:   map[string][]*resultRow{},
		campaigns: map[string]*campaign{},
		calls:     map[string]int{},
	}
	s.record.max = cfg.KeepRequests
	return s
}

// NewServer starts a server that listens on cfg.Addr. It returns an error if it
// cannot listen there or cfg.TestAgents is invalid.
func NewServer(cfg Config) (*Server, error) {
	s := New(cfg)
	if _, err := simulated.New(s.cfg.TestAgents); err != nil {
		return nil, fmt.Errorf("kittapitest: TestAgents: %w", err)
	}
	l, err := net.Listen("tcp", s.cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("kittapitest: %w", err)
	}
	s.listen(l)
	return s, nil
}

// listen serves the connections of l.
func (s *Server) listen(l net.Listener) {
	s.http = &http.Server{
		Handler:           s,
		TLSConfig:         s.cfg.TLS,
		ReadHeaderTimeout: 30 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0), // faults cause errors on purpose
	}
	scheme, serve := "http://", s.http.Serve
	if s.cfg.TLS != nil {
		scheme, serve = "https://", func(l net.Listener) error { return s.http.ServeTLS(l, "", "") }
	}
	s.URL = scheme + l.Addr().String()
	s.serving.Go(func() {
		// It returns when Close closes the listener. Clients notice any other
		// failure.
		_ = serve(&listener{Listener: l, server: s})
	})
}

// Close stops the server. It closes all connections and returns when everything
// that the server started has ended. It can be called twice, and always returns nil.
func (s *Server) Close() error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		s.stopPlaysLocked()
		close(s.done)
	}
	s.mu.Unlock()
	if s.http != nil {
		_ = s.http.Close() // it closes everything even if it returns an error
		s.serving.Wait()
	}
	s.requests.Wait()
	s.polls.Wait()
	s.plays.Wait()
	return nil
}

// begin counts a request that is being answered. It returns false if the server is
// closed.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.requests.Add(1)
	return true
}

// ServeHTTP answers a request, with the fault that SetFault's function returns.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.begin() {
		reset(w)
		return
	}
	defer s.requests.Done()
	rec := &Request{Time: s.now(), Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Header: r.Header.Clone()}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.record.add(*rec)
		s.wakeLocked()
	}()
	f := s.faultFor(r)
	if !s.before(w, r, f, rec) {
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	rec.Size = int64(len(body))
	rec.Body = string(body[:min(len(body), keepBody)])
	if err != nil {
		reset(w)
		return
	}
	a := s.handle(r, body)
	s.after(w, r, f, a, rec)
}

// send writes the answer and ends the connection, like the real server.
func (s *Server) send(w http.ResponseWriter, r *http.Request, a answer) {
	h := w.Header()
	for name, values := range a.header {
		h[name] = values
	}
	h.Set("Connection", "close")
	h.Set("Date", s.now().UTC().Format(http.TimeFormat))
	if a.serve != nil {
		a.serve(w, r)
		return
	}
	h.Set("Content-Type", a.kind)
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	w.WriteHeader(a.status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(a.body) // an error means that the client disconnected
	}
}

// now is the server's time.
func (s *Server) now() time.Time { return s.cfg.Now().Add(time.Duration(s.skew.Load())) }

// wakeLocked wakes the waits for a change. s.mu must be held.
func (s *Server) wakeLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// local returns the time in the format of the server's code.
func (s *Server) local() string {
	t := s.now()
	if t.Nanosecond()/1000 == 0 {
		return t.Format("2006-01-02T15:04:05")
	}
	return t.Format("2006-01-02T15:04:05.000000")
}

// utc returns the time in the format of the server's database.
func (s *Server) utc() string { return s.now().UTC().Format(time.DateTime) }

// newID returns 16 hex digits.
func newID() string { return randomHex(8) }

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
