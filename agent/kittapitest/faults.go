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

// A Fault is what goes wrong with one request. The zero Fault is none. Delay,
// SlowRead, SlowWrite and one of the others may come together.
type Fault struct {
	// Delay passes before the request is looked at.
	Delay time.Duration

	// SlowRead passes before each 4 KiB of the request's body are read.
	SlowRead time.Duration

	// Reset cuts the connection before the request is looked at.
	Reset bool

	// Hang leaves the request without an answer for as long as the client waits.
	// It is not carried out.
	Hang bool

	// Status, if set, is answered with a page of HTML, or with Body, as a proxy
	// in between would. The request is not carried out.
	Status int

	// Body and Type are the body of such an answer and its content type.
	Body, Type string

	// RetryAfter is the header of that name of such an answer.
	RetryAfter string

	// CutAnswer carries the request out and cuts the connection in place of the
	// answer.
	CutAnswer bool

	// CutAfter carries the request out and cuts the connection after that many
	// bytes of the answer's body.
	CutAfter int

	// SlowWrite passes before each 256 bytes of the answer's body are sent.
	SlowWrite time.Duration

	// WrongID carries the request out and answers with other ids.
	WrongID bool
}

// SetFault makes f decide about every request from now on; nil means that all is
// well. f is called from many goroutines at once.
func (s *Server) SetFault(f func(*http.Request) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// SetDown takes the server away, or brings it back: connections are reset, those
// that are open too. What it knows stays.
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

// SetClockSkew makes the server's clock wrong by d: in its Date header, in the
// times that it stores, and in when it calls an agent offline.
func (s *Server) SetClockSkew(d time.Duration) { s.skew.Store(int64(d)) }

// Always returns a function for SetFault by which f happens to every request.
func Always(f Fault) func(*http.Request) Fault {
	return func(*http.Request) Fault { return f }
}

// Sometimes returns a function for SetFault by which f happens to requests with
// probability p. The same seed gives the same row of decisions.
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

// On returns a function for SetFault by which next decides about requests whose
// method and path fit the pattern, as in "POST /api/v1/quicktest/*/logs"; an
// empty method fits all. See [path.Match]. A pattern that is none fits nothing.
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

// First returns a function for SetFault by which next decides about the first n
// requests that it is asked about, and the rest go well.
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

// before lets happen what goes wrong before a request is carried out, and
// reports whether it is to be.
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
		_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, maxBody)) // so that the answer is not cut
		rec.Status = a.status
		s.send(w, r, a)
		return false
	default:
		return true
	}
	reset(w)
	return false
}

// after answers a request that was carried out, in whatever way that goes wrong.
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

// wait waits for d, for ever if that is 0, or until the client or the server
// goes.
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
	left int // bytes that may be read before it waits again
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

// Unwrap lets what the writer can do beside writing be found.
func (w *slowWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

var hexID = regexp.MustCompile(`"[0-9a-f]{16}"`)

// otherIDs returns body with other ids in place of those in it.
func otherIDs(body []byte) []byte {
	return hexID.ReplaceAllFunc(body, func([]byte) []byte { return []byte(`"` + newID() + `"`) })
}

// reset cuts the connection so that the client sees a reset. Where it cannot be
// taken over, the request is aborted.
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
		_ = t.SetLinger(0) // its close is a reset then
	}
	_ = raw.Close()
}

// cutAnswer sends the head of an answer and n bytes of its body.
func cutAnswer(w http.ResponseWriter, a answer, n int) {
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	writeCut(buf.Writer, a, n)
	_ = conn.Close() // after what was written, in contrast to a reset
}

func writeCut(w *bufio.Writer, a answer, n int) {
	// A connection that is being cut has nobody to tell of an error.
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
