package webpage_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/agent/webpage"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// An agent serves its page next to its API.
func Example() {
	dir, err := os.MkdirTemp("", "agent-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	a, err := agent.New(agent.Config{
		Name: "gpu-01", Dir: dir, Server: &agenttest.Server{}, Runner: &runnertest.Fake{},
		Page: func(a *agent.Agent) http.Handler { return webpage.New(webpage.Config{Agent: a}) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	server := httptest.NewServer(a.Handler())
	defer server.Close()
	answer, err := http.Get(server.URL + "/")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer answer.Body.Close()
	fmt.Println(answer.StatusCode, answer.Header.Get("Content-Type"))
	// Output: 200 text/html; charset=utf-8
}
