package kittapitest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"

	"github.com/kirizan/kitt-agent/runner/simulated"
)

// NewInMemory starts a server without a network, which answers only requests
// through [Server.Transport]. It works inside a testing/synctest bubble, where hours
// pass in an instant. It ignores Config.Addr. The error is for an invalid
// Config.TestAgents.
func NewInMemory(cfg Config) (*Server, error) {
	s := New(cfg)
	if _, err := simulated.New(s.cfg.TestAgents); err != nil {
		return nil, fmt.Errorf("kittapitest: TestAgents: %w", err)
	}
	s.pipes = &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	s.listen(s.pipes)
	return s, nil
}

// Transport returns a new transport that connects every address to this server,
// which must be one of [NewInMemory]; otherwise its requests fail.
func (s *Server) Transport() *http.Transport {
	return &http.Transport{
		DialContext:       s.pipes.dial,
		DisableKeepAlives: true, // the server closes each connection anyway
	}
}

// A pipeListener accepts connections in memory.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

var errNotInMemory = errors.New("kittapitest: only a server of NewInMemory has connections in memory")

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if l == nil {
		return nil, errNotInMemory
	}
	ours, theirs := net.Pipe()
	select {
	case l.conns <- theirs:
		return ours, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

// pipeAddr is the address of a server in memory. No network resolves its name
// (RFC 6761).
type pipeAddr struct{}

func (pipeAddr) Network() string { return "memory" }

func (pipeAddr) String() string { return "kitt.test" }
