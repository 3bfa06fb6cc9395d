package webpage_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/internal/browser"
	"github.com/kirizan/kitt-agent/runner"
)

// badNetwork leads to an agent over a network that is slow, and cuts each connection
// after some bytes. It returns its address.
func badNetwork(t *testing.T, target string) string {
	t.Helper()
	const (
		delay = 5 * time.Millisecond // for each piece
		piece = 8 << 10
		limit = 150 << 10
	)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var running sync.WaitGroup
	t.Cleanup(func() {
		_ = listener.Close()
		running.Wait()
	})
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	carry := func(from net.Conn) {
		defer from.Close()
		to, err := (&net.Dialer{}).DialContext(ctx, "tcp", target)
		if err != nil {
			return
		}
		defer to.Close()
		unhook := context.AfterFunc(ctx, func() {
			_ = from.Close()
			_ = to.Close()
		})
		defer unhook()
		var asking sync.WaitGroup
		defer asking.Wait()
		asking.Go(func() {
			_, _ = io.Copy(to, from)
			_ = to.Close()
		})
		for sent := 0; sent < limit; sent += piece {
			time.Sleep(delay) // that is what the network is
			if _, err := io.CopyN(from, to, piece); err != nil {
				break
			}
		}
		_ = from.Close()
		_ = to.Close()
	}
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { carry(conn) })
		}
	})
	return listener.Addr().String()
}

// Over a slow network that cuts connections, a log is whole, with each line once.
func TestOverABadNetwork(t *testing.T) {
	b := browser.NewTab(t)
	const many = 4000
	s := serve(t, agent.Config{Runner: runnerFunc(func(ctx context.Context, _ runner.Job, out runner.Output) (runner.Result, error) {
		for i := range many {
			fmt.Fprintf(runner.OutputWriter(out), "line %d of a log\n", i)
		}
		<-ctx.Done()
		return runner.Result{}, context.Cause(ctx)
	})}, everything(), "")
	id := s.submit("m")
	s.awaitState(id, agent.StateRunning)
	address := "http://" + badNetwork(t, strings.TrimPrefix(s.url, "http://"))
	b.Do(chromedp.Navigate(address + "/jobs/" + id))
	b.Until(fmt.Sprintf(`(document.querySelector("#log").lastElementChild?.textContent ?? "").includes("line %d of")`, many-1))
	lines := browser.Eval[[]string](b, `document.querySelector("#log").textContent.split("\n").filter((line) => line.startsWith("line "))`)
	require.Len(t, lines, many)
	for i, line := range lines {
		require.Equal(t, fmt.Sprintf("line %d of a log", i), line)
	}
	b.Contained(address, func(c string) bool { return strings.Contains(c, "net::ERR_") })
}
