package kittapitest

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Fault is the failure of one request. The zero Fault is none. Delay, SlowRead and
// SlowWrite can be combined with each other and with one of the other fields.
type Fault struct {
	// Delay is the wait before the request is handled.
	Delay time.Duration

	// SlowRead is the wait before each 4 KiB of the request's body.
	SlowRead time.Duration

	// Reset resets the connection without handling the request.
	Reset bool

	// Hang sends no answer for as long as the client waits. The request is not
	// handled.
	Hang bool

	// Status, if set, is the status of an answer with an HTML page or with Body,
	// like that of a proxy. The request is not handled.
	Status int

	// Body and Type are the body of such an answer and its content type.
	Body, Type string

	// RetryAfter is the Retry-After header of such an answer.
	RetryAfter string

	// CutAnswer handles the request and resets the connection instead of
	// answering.
	CutAnswer bool

	// CutAfter handles the request and closes the connection after that many
	// bytes of the answer's body.
	CutAfter int

	// SlowWrite is the wait before each 256 bytes of the answer's body.
	SlowWrite time.Duration

	// WrongID handles the request and answers with other ids.
	WrongID bool
}

// SetFault sets the function that returns the fault of each later request; nil
// means no faults. f must be safe for concurrent use.
func (s *Server) SetFault(f func(*http.Request) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// SetDown stops or resumes the service. While the server is down it resets new and
// open connections. It keeps its data.
func (s *Server) SetDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if down && !s.down {
		close(s.cut)
		s.cut = make(chan struct{})
	}
	s.down = down
}

func (s *Server) isDown() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.down
}

// SetClockSkew adds d to the server's clock. This affects its Date header, the times
// that it stores, and when an agent becomes offline.
func (s *Server) SetClockSkew(d time.Duration) { s.skew.Store(int64(d)) }

// Always returns a function for [Server.SetFault] that returns f for every request.
func Always(f Fault) func(*http.Request) Fault {
	return func(*http.Request) Fault { return f }
}

// Sometimes returns a function for [Server.SetFault] that returns f with probability
// p, from 0 to 1. The same seed gives the same sequence.
func Sometimes(seed uint64, p float64, f Fault) func(*http.Request) Fault {
	var mu sync.Mutex
	draw := rand.New(rand.NewPCG(seed, seed))
	return func(*http.Request) Fault {
		mu.Lock()
		defer mu.Unlock()
		if draw.Float64() < p {
			return f
		}
		return Fault{}
	}
}

// On returns a function for [Server.SetFault] that calls next for requests that match
// pattern, such as "POST /api/v1/quicktest/*/logs". Without a method, pattern
// matches all methods. The path is matched by [path.Match]; an invalid pattern
// matches nothing.
func On(pattern string, next func(*http.Request) Fault) func(*http.Request) Fault {
	method, pattern, found := strings.Cut(pattern, " ")
	if !found {
		method, pattern = "", method
	}
	return func(r *http.Request) Fault {
		if fits, err := path.Match(pattern, r.URL.Path); err != nil || !fits || method != "" && method != r.Method {
			return Fault{}
		}
		return next(r)
	}
}

// First returns a function for [Server.SetFault] that calls next for the first n
// requests. Later requests have no fault.
func First(n int, next func(*http.Request) Fault) func(*http.Request) Fault {
	var mu sync.Mutex
	return func(r *http.Request) Fault {
		mu.Lock()
		defer mu.Unlock()
		if n == 0 {
			return Fault{}
		}
		n--
		return next(r)
	}
}

func (s *Server) faultFor(r *http.Request) Fault {
	s.mu.Lock()
	decide, down := s.fault, s.down
	s.mu.Unlock()
	switch {
	case down:
		return Fault{Reset: true}
	case decide == nil:
		return Fault{}
	}
	return decide(r)
}

// before applies the faults that precede the handling of a request, and reports
// whether the request is to be handled.
func (s *Server) before(w http.ResponseWriter, r *http.Request, f Fault, rec *Request) bool {
	if f.Delay > 0 {
		s.wait(r, f.Delay)
	}
	if f.SlowRead > 0 {
		r.Body = &slowBody{ReadCloser: r.Body, wait: func() { s.wait(r, f.SlowRead) }}
	}
	switch {
	case f.Reset:
	case f.Hang:
		s.wait(r, 0)
	case f.Status != 0 || f.Body != "":
		a := page(f.Status)
		if f.Status == 0 {
			a.status = http.StatusOK
		}
		if f.Body != "" {
			a.body = []byte(f.Body)
		}
		if f.Type != "" {
			a.kind = f.Type
		}
		if f.RetryAfter != "" {
			a.header = http.Header{"Retry-After": {f.RetryAfter}}
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, maxBody)) // otherwise the connection would be reset
		rec.Status = a.status
		s.send(w, r, a)
		return false
	default:
		return true
	}
	reset(w)
	return false
}

// after answers a request that was handled, with the faults that follow.
func (s *Server) after(w http.ResponseWriter, r *http.Request, f Fault, a answer, rec *Request) {
	rec.Handled, rec.Status = true, a.status
	if f.WrongID {
		a.body = otherIDs(a.body)
	}
	if f.SlowWrite > 0 {
		w = &slowWriter{ResponseWriter: w, wait: func() { s.wait(r, f.SlowWrite) }}
	}
	switch {
	case f.CutAnswer || s.isDown():
		reset(w)
	case f.CutAfter > 0 && a.serve == nil:
		cutAnswer(w, a, f.CutAfter)
	default:
		s.send(w, r, a)
	}
}

// wait waits for d, or without a limit if d is 0. It returns earlier if the client
// disconnects or the server stops.
func (s *Server) wait(r *http.Request, d time.Duration) {
	var expired <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		expired = timer.C
	}
	s.mu.Lock()
	cut := s.cut
	s.mu.Unlock()
	select {
	case <-expired:
	case <-cut:
	case <-s.done:
	case <-r.Context().Done():
	}
}

type slowBody struct {
	io.ReadCloser
	wait func()
	left int // bytes until the next wait
}

func (b *slowBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		b.wait()
		b.left = 4 << 10
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// slowWriter sends a body in small pieces.
type slowWriter struct {
	http.ResponseWriter
	wait func()
}

func (w *slowWriter) Write(p []byte) (n int, err error) {
	flush := http.NewResponseController(w.ResponseWriter)
	for piece := range slices.Chunk(p, 256) {
		w.wait()
		m, err := w.ResponseWriter.Write(piece)
		if n += m; err != nil {
			return n, err
		}
		if err := flush.Flush(); err != nil {
			return n, err
		}
	}
	return n, nil
}

// Unwrap lets http.ResponseController find the writer's other methods.
func (w *slowWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

var hexID = regexp.MustCompile(`"[0-9a-f]{16}"`)

// otherIDs returns body with each id replaced by another one.
func otherIDs(body []byte) []byte {
	return hexID.ReplaceAllFunc(body, func([]byte) []byte { return []byte(`"` + newID() + `"`) })
}

// reset closes the connection so that the client sees a reset. If the connection
// cannot be hijacked, it aborts the request.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	cutConn(conn)
}

func cutConn(conn net.Conn) {
	raw := conn
	if t, ok := conn.(*tls.Conn); ok {
		raw = t.NetConn()
	}
	if t, ok := raw.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // makes Close send a reset
	}
	_ = raw.Close()
}

// cutAnswer sends the header of an answer and n bytes of its body.
func cutAnswer(w http.ResponseWriter, a answer, n int) {
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	writeCut(buf.Writer, a, n)
	_ = conn.Close() // unlike a reset, this sends what was written
}

func writeCut(w *bufio.Writer, a answer, n int) {
	// The connection is closed anyway, so errors don't matter.
	_, _ = fmt.Fprintf(w, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n",
		a.status, http.StatusText(a.status), a.kind, len(a.body))
	_, _ = w.Write(a.body[:min(n, len(a.body))])
	_ = w.Flush()
}

// listener resets connections while the server is down.
type listener struct {
	net.Listener
	server *Server
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil || !l.server.isDown() {
			return conn, err
		}
		cutConn(conn)
	}
}
