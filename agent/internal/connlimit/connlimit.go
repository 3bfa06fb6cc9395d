// Package connlimit bounds the connections to an agent's API, so that callers can't take
// the files that the agent needs for its jobs and its heartbeats.
package connlimit

import (
	"net"
	"net/http"
	"sync"
)

// Defaults of an agent's limits.
const (
	DefaultConnections = 2048
	DefaultFollowers   = 1100
)

// A Limiter counts the connections of an [http.Server] and closes those beyond its limit.
// Its ConnState is the server's. Its methods are safe for concurrent use.
type Limiter struct {
	// Max is how many connections are open at most. The last eighth of them is for
	// callers on this machine, so that its operator gets through to a flooded agent.
	Max int

	// Refused, if set, is called for each connection that is closed for being one
	// too many. It may be called concurrently.
	Refused func(from net.Addr)

	mu   sync.Mutex
	open map[net.Conn]struct{} // guarded by mu
}

// ConnState counts a connection that changes its state.
func (l *Limiter) ConnState(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		if l.admit(conn) {
			return
		}
		_ = conn.Close() // the server sees that
		if l.Refused != nil {
			l.Refused(conn.RemoteAddr())
		}
	case http.StateClosed, http.StateHijacked:
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.open, conn)
	case http.StateActive, http.StateIdle:
	}
}

// admit counts conn unless it is one too many.
func (l *Limiter) admit(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) >= l.limit(conn.RemoteAddr()) {
		return false
	}
	if l.open == nil {
		l.open = map[net.Conn]struct{}{}
	}
	l.open[conn] = struct{}{}
	return true
}

// limit returns how many connections may be open for one more from addr to be let in.
func (l *Limiter) limit(addr net.Addr) int {
	if tcp, ok := addr.(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
		return l.Max - l.Max/8
	}
	return l.Max
}

// Within returns want, or half of the files that this process may open if that is less:
// each connection takes one, and the other half is the process's own.
func Within(want int) int {
	if files, known := openFiles(); known {
		return int(min(uint64(want), files/2))
	}
	return want
}
