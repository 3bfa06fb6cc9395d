package agent_test

import (
	"net"
	"net/http"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
)

// keepingListener keeps the connections that it accepts.
type keepingListener struct {
	net.Listener
	accepted chan *net.TCPConn
}

func (l keepingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if tcp, ok := conn.(*net.TCPConn); ok {
		l.accepted <- tcp
	}
	return conn, err
}

// TestACallerHoldsLittleOfTheKernelsMemory asks the kernel how much it lets
// gather for a caller that takes nothing.
func TestACallerHoldsLittleOfTheKernelsMemory(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	kept := keepingListener{listener, make(chan *net.TCPConn, 1000)}
	_, url := serveAgent(t, agent.Config{Listener: kept})
	for len(kept.accepted) > 0 {
		<-kept.accepted // those that waited for the agent to be ready
	}
	client := &http.Client{Transport: &http.Transport{}} // others close what is idle in the default one
	defer client.CloseIdleConnections()
	resp, err := client.Get(url + "/healthz")
	require.NoError(t, err)
	defer resp.Body.Close()
	raw, err := (<-kept.accepted).SyscallConn()
	require.NoError(t, err)
	var size int
	var sizeErr error
	require.NoError(t, raw.Control(func(fd uintptr) {
		size, sizeErr = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF)
	}))
	require.NoError(t, sizeErr)
	require.LessOrEqual(t, size, 1<<20)
	require.Greater(t, size, 128<<10, "but a whole piece of a log")
}
