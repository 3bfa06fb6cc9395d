// Package kittapitest has a KITT control plane in process, as net/http/httptest
// has HTTP servers: for tests of agents and of what talks to them.
//
// A [Server] speaks the protocol of KITT 1.7 over real HTTP: agents register and
// beat, tests are launched, handed out, logged and ended, results are stored,
// events are streamed. It is held to the real server by exchanges that were
// recorded from it, which are replayed against it in its own tests. What the
// real server does wrong it does wrong too where an agent has to live with it:
// every answer closes its connection, a command is marked as handed out before
// the answer has left, null is refused, a test goes back from completed to
// running if it is told to. What it does not imitate is the database that one
// bad report locks for everybody; such a report is answered with 500 and
// otherwise without effect.
//
// Faults are set with [Server.SetFault]: answers that are lost, errors, silence,
// connections that break. This package imports neither testing nor an assertion
// library, so programs may use it as well.
package kittapitest

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// Config says how a Server behaves. Its zero value is a server without an
// operator's token on a free port of 127.0.0.1.
type Config struct {
	Addr      string           // to listen on; defaults to a free port of 127.0.0.1
	TLS       *tls.Config      // to serve HTTPS; nil for HTTP
	AuthToken string           // the operator's token; empty for none
	Now       func() time.Time // the server's clock; defaults to time.Now

	// BuildContext is what /agent/build-context gives, Package what
	// /agent/package gives; without one that call fails with 500.
	BuildContext []byte
	Package      []byte
}

// Server is a KITT control plane. Its methods are safe for concurrent use.
type Server struct {
	// URL is the server's address, such as http://127.0.0.1:41234.
	URL string

	cfg     Config
	handler http.Handler
	http    *http.Server
	closing chan struct{}
	serving sync.WaitGroup

	mu       sync.Mutex
	agents   map[string]*agentRow // by id
	names    map[string]*agentRow
	order    []*agentRow
	tests    map[string]*testRow
	commands map[string]*testRow // by command id
	list     []*testRow          // in the order of their making
	results  []map[string]any
	beats    map[string]int // by the agent's id
	requests map[string]int // by method and route
	fault    func(*http.Request) Fault
	changed  chan struct{}
	events   broker
}

// NewServer starts a server.
func NewServer(cfg Config) (*Server, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	s := &Server{
		cfg:      cfg,
		closing:  make(chan struct{}),
		agents:   map[string]*agentRow{},
		names:    map[string]*agentRow{},
		tests:    map[string]*testRow{},
		commands: map[string]*testRow{},
		beats:    map[string]int{},
		requests: map[string]int{},
		changed:  make(chan struct{}),
	}
	s.handler = s.routes()
	listener, err := net.Listen("tcp", cfg.Addr)
	if err != nil {
		return nil, err
	}
	s.http = &http.Server{Handler: s, ReadHeaderTimeout: time.Minute, TLSConfig: cfg.TLS}
	s.http.SetKeepAlivesEnabled(false) // as the real one: each answer closes its connection
	scheme := "http://"
	if cfg.TLS != nil {
		scheme = "https://"
	}
	s.URL = scheme + listener.Addr().String()
	s.serving.Go(func() {
		if cfg.TLS != nil {
			_ = s.http.ServeTLS(listener, "", "") // always ErrServerClosed, by Close
		} else {
			_ = s.http.Serve(listener)
		}
	})
	return s, nil
}

// Close stops the server and breaks what connections it has. It may be called
// more than once.
func (s *Server) Close() error {
	s.mu.Lock()
	select {
	case <-s.closing:
		s.mu.Unlock()
		return nil
	default:
		close(s.closing)
	}
	s.mu.Unlock()
	err := s.http.Close()
	s.serving.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// now returns the time by the server's clock.
func (s *Server) now() time.Time { return s.cfg.Now() }

// localTime is how the server's code writes a time: its own, without a zone.
func localTime(t time.Time) string { return t.Local().Format("2006-01-02T15:04:05.000000") }

// dbTime is how the server's database writes one: UTC, in whole seconds.
func dbTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") }

// newID returns a fresh id: 16 hexadecimal digits.
func newID() string { return randomHex(8) }

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// wakeLocked wakes whoever waits for something to change. s.mu must be held.
func (s *Server) wakeLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// wait waits until ok, which is called with s.mu held, or ctx is done.
func (s *Server) wait(ctx context.Context, ok func() bool) error {
	for {
		s.mu.Lock()
		done, changed := ok(), s.changed
		s.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
