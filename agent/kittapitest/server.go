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

// Config says how a Server behaves. The zero value is a KITT server 1.7.0 that
// was started without a token.
type Config struct {
	// Addr is the host and port to listen on. Defaults to a free port of
	// 127.0.0.1.
	Addr string

	// TLS serves https in place of http; see [NewTLS] for one to use.
	TLS *tls.Config

	// AuthToken is the operator's token. Empty means that whoever asks may do
	// what an operator may.
	AuthToken string

	// Version is what the server calls itself. Defaults to 1.7.0.
	Version string

	// Now is the server's clock. Its zone is the server's. Defaults to time.Now.
	Now func() time.Time

	// Keepalive is how long an event stream is silent before it says so.
	// Defaults to 30 s.
	Keepalive time.Duration

	// CampaignPoll is how often a campaign looks at its test. Defaults to 5 s.
	CampaignPoll time.Duration

	// Package is the agent package that is offered for download. Empty means
	// that the server cannot build it, as in a plain installation.
	Package []byte

	// BuildContext is the Docker build context, a gzip tar. Empty means a small
	// one.
	BuildContext []byte

	// TestAgents says how the tests of test agents go: their seed, their
	// scenario, and with which delays. The zero value plays them at once;
	// Speed 1 takes the time that the real server takes. Hardware and WriteFile
	// are not looked at.
	TestAgents simulated.Config

	// KeepRequests is how many requests are recorded, the latest ones. Defaults
	// to 10,000.
	KeepRequests int
}

// Limits of what is kept.
const (
	defaultKeepRequests = 10_000
	keepBody            = 4 << 10  // bytes of a request's body in its record
	maxBody             = 64 << 20 // bytes of a request's body; the real server has no limit
	keepBeats           = 256      // beats of an agent
)

// A Server is a KITT control plane that keeps everything in memory. Its methods
// are safe for concurrent use.
type Server struct {
	// URL is the server's address, such as http://127.0.0.1:41234. It is empty
	// where the server listens nowhere.
	URL string

	cfg      Config
	http     *http.Server
	pipes    *pipeListener // nil unless it is in memory
	serving  sync.WaitGroup
	requests sync.WaitGroup // being answered
	polls    sync.WaitGroup // the goroutine that polls campaigns
	plays    sync.WaitGroup // those that play the tests of test agents
	done     chan struct{}  // closed by Close

	skew atomic.Int64 // nanoseconds that its clock is wrong by

	mu        sync.Mutex
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

// New returns a server that answers as an http.Handler and listens nowhere.
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

// NewServer returns a server that listens on a network.
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
		ErrorLog:          log.New(io.Discard, "", 0), // connections that it cut itself
	}
	scheme, serve := "http://", s.http.Serve
	if s.cfg.TLS != nil {
		scheme, serve = "https://", func(l net.Listener) error { return s.http.ServeTLS(l, "", "") }
	}
	s.URL = scheme + l.Addr().String()
	s.serving.Go(func() {
		// It returns when Close closes the listener, and there is nobody to tell
		// of any other reason but the clients, who notice.
		_ = serve(&listener{Listener: l, server: s})
	})
}

// Close stops the server: it cuts all connections and returns once everything
// that it started has ended. It may be called more than once, and never fails.
func (s *Server) Close() error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		s.stopPlaysLocked()
		close(s.done)
	}
	s.mu.Unlock()
	if s.http != nil {
		_ = s.http.Close() // what it closes is gone either way
		s.serving.Wait()
	}
	s.requests.Wait()
	s.polls.Wait()
	s.plays.Wait()
	return nil
}

// begin notes that a request is being answered; it is false once the server is
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

// ServeHTTP answers a request, unless a fault is in the way.
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

// send writes the answer. The connection ends with it, as with the real server.
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
		_, _ = w.Write(a.body) // a client that has gone is its own affair
	}
}

// now is the server's time.
func (s *Server) now() time.Time { return s.cfg.Now().Add(time.Duration(s.skew.Load())) }

// wakeLocked wakes those who wait for a change. s.mu must be held.
func (s *Server) wakeLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// local returns the time as the server's own code writes it.
func (s *Server) local() string {
	t := s.now()
	if t.Nanosecond()/1000 == 0 {
		return t.Format("2006-01-02T15:04:05")
	}
	return t.Format("2006-01-02T15:04:05.000000")
}

// utc returns the time as the server's database writes it.
func (s *Server) utc() string { return s.now().UTC().Format(time.DateTime) }

// newID returns 16 hex digits.
func newID() string { return randomHex(8) }

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
