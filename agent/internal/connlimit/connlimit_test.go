package connlimit

import (
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// conn is a connection from somewhere.
type conn struct {
	net.Conn
	from   net.Addr
	closed bool
}

func (c *conn) RemoteAddr() net.Addr { return c.from }

func (c *conn) Close() error {
	c.closed = true
	return nil
}

func from(addr string) *conn {
	return &conn{from: &net.TCPAddr{IP: net.ParseIP(addr), Port: 1}}
}

// TestTheLastOnesAreForThisMachine fills the limit from elsewhere, then from here.
func TestTheLastOnesAreForThisMachine(t *testing.T) {
	t.Parallel()
	refused := 0
	l := &Limiter{Max: 16, Refused: func(net.Addr) { refused++ }}
	var away []*conn
	for range 20 {
		c := from("192.0.2.1")
		l.ConnState(c, http.StateNew)
		if c.closed {
			l.ConnState(c, http.StateClosed) // as the server does
			continue
		}
		away = append(away, c)
	}
	require.Len(t, away, 14)
	require.Equal(t, 6, refused)

	for _, here := range []*conn{from("127.0.0.1"), {from: &net.UnixAddr{Name: "@", Net: "unix"}}} {
		l.ConnState(here, http.StateNew)
		require.False(t, here.closed)
	}
	last := from("::1")
	l.ConnState(last, http.StateNew)
	require.True(t, last.closed)
	l.ConnState(last, http.StateClosed)

	for _, c := range away[:3] { // 13 remain
		l.ConnState(c, http.StateActive)
		l.ConnState(c, http.StateIdle)
		l.ConnState(c, http.StateClosed)
	}
	next := from("192.0.2.2")
	l.ConnState(next, http.StateNew)
	require.False(t, next.closed)
}

func TestWithin(t *testing.T) {
	t.Parallel()
	files, known := openFiles()
	require.True(t, known)
	require.EqualValues(t, files/2, Within(int(min(files, 1<<40))))
	require.Equal(t, 3, Within(3))
}
