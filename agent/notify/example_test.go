package notify_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/agent/notify"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// A web hook hears of a job that fails.
func Example() {
	heard := make(chan notify.Notification, 1)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var n notify.Notification
		_ = json.NewDecoder(r.Body).Decode(&n)
		heard <- n
	}))
	defer hook.Close()
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	server := &agenttest.Server{}
	a, err := agent.New(agent.Config{
		Name: "gpu-1", Dir: dir, Server: server,
		Runner: &runnertest.Fake{Lines: []string{"loading"}, Err: errors.New("the model does not fit")},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	n, err := notify.New(notify.Config{URL: agent.Secret(hook.URL), Dir: dir, Transport: transport})
	if err != nil {
		fmt.Println(err)
		return
	}
	server.Launch("qwen2.5:7b")
	ctx, stop := context.WithCancel(context.Background())
	events := a.Events(ctx) // before Run, so that none is missed
	done := make(chan struct{})
	go func() {
		n.Run(ctx, a, events)
		close(done)
	}()
	ended := make(chan error)
	go func() { ended <- a.Run(ctx) }()

	got := <-heard
	fmt.Println(got.Title)
	fmt.Println(got.Cause)
	stop()
	<-done
	fmt.Println(<-ended)
	// Output:
	// gpu-1: job failed: qwen2.5:7b
	// the model does not fit
	// <nil>
}
