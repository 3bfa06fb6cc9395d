package preflight

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"
)

// Port checks that the agent can listen on port, or that the agent named agentName
// already does. An empty agentName accepts any agent. The check is not required,
// as in KITT's own agent: the port may be free when the agent starts.
func Port(port int, agentName string) Check {
	return Func{Label: "port", Do: func(ctx context.Context) Result {
		if port < 1 || port > 65535 {
			return Result{Status: Fail, Details: fmt.Sprintf("%d is not a port", port), Fix: "set port in agent.yaml to a number from 1 to 65535"}
		}
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("", strconv.Itoa(port)))
		if err == nil {
			l.Close()
			return Result{Status: OK, Details: fmt.Sprintf("%d is free", port)}
		}
		if errors.Is(err, fs.ErrPermission) {
			return Result{Status: Fail, Details: fmt.Sprintf("only root can listen on %d", port), Fix: "choose a port above 1023"}
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return Result{Status: Fail, Details: err.Error()}
		}
		fix := fmt.Sprintf("find the program with `sudo ss -ltnp 'sport = :%d'`, or set port in agent.yaml to another", port)
		switch user := agentOn(ctx, port); {
		case user == "":
			return Result{Status: Fail, Details: fmt.Sprintf("another program uses %d", port), Fix: fix}
		case agentName != "" && user != agentName:
			return Result{Status: Fail, Details: fmt.Sprintf("the agent %q uses %d", user, port), Fix: fix}
		default:
			return Result{Status: OK, Details: fmt.Sprintf("%d is used by the agent %q, which is running", port, user)}
		}
	}}
}

// agentOn returns the name of the agent that listens on port, or an empty string
// if another program does.
func agentOn(ctx context.Context, port int) string {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	// The agent's certificate need not be for 127.0.0.1, and the request has no
	// secrets.
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	client := &http.Client{Transport: transport}
	for _, scheme := range []string{"http", "https"} {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s://127.0.0.1:%d/api/status", scheme, port), nil)
		if err != nil {
			return ""
		}
		resp, err := client.Do(req)
		if err != nil {
			continue
		}
		var status struct {
			Name    string           `json:"name"`
			Storage *json.RawMessage `json:"storage"`
		}
		err = json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&status)
		resp.Body.Close()
		if err == nil && status.Name != "" && status.Storage != nil {
			return status.Name
		}
	}
	return ""
}
