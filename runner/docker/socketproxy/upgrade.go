package socketproxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// A halfCloser is a connection of which one direction can be closed.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// upgrade makes a call whose connection becomes a stream of bytes in both directions,
// and joins it with the client's.
func (p *Proxy) upgrade(w http.ResponseWriter, r *http.Request, c call) error {
	conn, err := p.engine.dial(r.Context())
	if err != nil {
		return fmt.Errorf("the container engine does not answer: %w", err)
	}
	defer conn.Close()
	engine, ok := conn.(halfCloser)
	if !ok {
		return fmt.Errorf("a connection of the kind %T can't be half closed", conn)
	}
	from := bufio.NewReader(engine)
	reply, err := upgradeEngine(r, c, engine, from)
	if err != nil {
		return fmt.Errorf("the container engine does not answer: %w", err)
	}
	if reply.StatusCode != http.StatusSwitchingProtocols {
		relay(w, reply)
		return nil
	}
	hijacked, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return err
	}
	defer hijacked.Close()
	client, ok := hijacked.(halfCloser)
	if !ok {
		return nil
	}
	_ = client.SetDeadline(time.Time{}) // those of the server don't hold for a stream
	head := "HTTP/1.1 101 UPGRADED\r\nContent-Type: " + streamType(reply) + "\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
	if _, err := io.WriteString(client, head); err != nil {
		return nil // the client has gone
	}
	join(client, buffered.Reader, engine, from)
	return nil
}

// upgradeEngine makes the call and returns the engine's answer to it.
func upgradeEngine(r *http.Request, c call, engine net.Conn, from *bufio.Reader) (*http.Response, error) {
	request, err := c.request(r.Context())
	if err != nil {
		return nil, err
	}
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", "tcp")
	if err := engine.SetDeadline(time.Now().Add(createLimit)); err != nil {
		return nil, err
	}
	if err := request.Write(engine); err != nil {
		return nil, err
	}
	reply, err := http.ReadResponse(from, request)
	if err != nil {
		return nil, err
	}
	return reply, engine.SetDeadline(time.Time{})
}

// streamType returns the type of the stream, which says whether stdout and stderr are
// told apart in it.
func streamType(reply *http.Response) string {
	const multiplexed = "application/vnd.docker.multiplexed-stream"
	if reply.Header.Get("Content-Type") == multiplexed {
		return multiplexed
	}
	return "application/vnd.docker.raw-stream"
}

// join copies in both directions until the engine's side ends. The end of the client's
// input is passed on: the command's output still comes.
func join(client halfCloser, fromClient *bufio.Reader, engine halfCloser, fromEngine *bufio.Reader) {
	input := make(chan struct{})
	go func() {
		defer close(input)
		if copyBuffered(engine, fromClient, client) == nil {
			_ = engine.CloseWrite() // the engine may have closed it
		}
	}()
	_ = copyBuffered(client, fromEngine, engine) // either may end first
	_ = client.CloseWrite()
	// Nobody reads the command's input any more.
	_ = client.SetReadDeadline(time.Now())
	_ = engine.Close()
	<-input
}

// copyBuffered copies what was read ahead of a connection and then the connection
// itself, which the kernel can do without this program's memory.
func copyBuffered(to io.Writer, ahead *bufio.Reader, from net.Conn) error {
	if n := ahead.Buffered(); n > 0 {
		if _, err := io.CopyN(to, ahead, int64(n)); err != nil {
			return err
		}
	}
	_, err := io.Copy(to, from)
	return err
}
