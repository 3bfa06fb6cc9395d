package kittapitest

import (
	"net"
	"net/http"
	"time"
)

// Fault is what goes wrong with a request. The zero value is nothing.
type Fault struct {
	Delay     time.Duration // before anything else
	Hang      bool          // no answer, until the client or the server gives up
	Reset     bool          // the connection breaks before the request is carried out
	Status    int           // an HTML page with this status, as of a proxy; nothing is carried out
	CutAnswer bool          // the request is carried out, but its answer is lost
}

// SetFault has fault decide about each request from now on; nil stops that.
func (s *Server) SetFault(fault func(*http.Request) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// ServeHTTP answers a request, unless a fault keeps it from that.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	decide := s.fault
	s.mu.Unlock()
	var f Fault
	if decide != nil {
		f = decide(r)
	}
	if f.Delay > 0 {
		timer := time.NewTimer(f.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
		case <-s.closing:
		}
	}
	switch {
	case f.Hang:
		select {
		case <-r.Context().Done():
		case <-s.closing:
		}
		cut(w)
	case f.Reset:
		cut(w)
	case f.Status != 0:
		page(w, f.Status)
	case f.CutAnswer:
		s.handler.ServeHTTP(&deaf{header: http.Header{}}, r)
		cut(w)
	default:
		s.handler.ServeHTTP(w, r)
	}
}

// cut breaks the connection of w, so that the client sees no answer at all.
func cut(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // what can't be taken over can still be aborted
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // a reset rather than an orderly end
	}
	_ = conn.Close() // broken either way
}

// deaf is a response writer whose answer nobody hears.
type deaf struct{ header http.Header }

func (d *deaf) Header() http.Header         { return d.header }
func (d *deaf) WriteHeader(int)             {}
func (d *deaf) Write(p []byte) (int, error) { return len(p), nil }
