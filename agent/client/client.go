// Package client is a client of the HTTP API that an agent serves; see
// [agent.Agent.Handler].
//
// A [Client] reads an agent's status, follows a job's log, sends commands and
// stops the agent. Every call has a deadline and every answer a maximum size. The
// Python agent's API is understood too: what it does not send is at its zero
// value.
//
// To run an agent, use package agent. To speak to the KITT server, use package
// agent/kittapi.
package client

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/agent"
)

// Deadlines of the calls, and the maximum size of an answer in bytes.
const (
	dialTimeout      = 3 * time.Second
	handshakeTimeout = 5 * time.Second
	callTimeout      = 10 * time.Second
	maxAnswer        = 8 << 20

	// commandTimeout bounds a command that waits for a job to stop, which takes
	// the job's grace period.
	commandTimeout = 2 * time.Minute

	// heartbeatTimeout bounds a heartbeat, for which the agent waits 40 s.
	heartbeatTimeout = 45 * time.Second
)

// Config says which agent a Client speaks to. URL is required.
type Config struct {
	// URL is the agent's address without a path, such as http://127.0.0.1:8090.
	URL string

	// Token is the agent's own. An agent without one answers callers on its own
	// machine only.
	Token agent.Secret

	// TLS is used where URL begins with https. Nil means Go's defaults; see
	// [OwnTLS] for an agent whose certificate names no host.
	TLS *tls.Config

	// Source is what errors call the place that these settings come from, such as
	// agent.yaml. Defaults to "the client's settings".
	Source string
}

// A Client speaks to one agent. Its methods are safe for concurrent use. It keeps
// no connection open between calls and needs no closing.
type Client struct {
	base   string
	token  agent.Secret
	source string
	http   *http.Client
}

// New returns a client. It opens no connection.
func New(cfg Config) (*Client, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("client: URL: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("client: URL %q is not an http or https address", cfg.URL)
	}
	if cfg.Source == "" {
		cfg.Source = "the client's settings"
	}
	return &Client{
		base:   strings.TrimSuffix(cfg.URL, "/"),
		token:  cfg.Token,
		source: cfg.Source,
		http: &http.Client{
			Transport: &http.Transport{
				DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
				TLSHandshakeTimeout: handshakeTimeout,
				TLSClientConfig:     cfg.TLS,
				DisableKeepAlives:   true,
			},
			// No other host gets the token.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// URL returns the address at which the client expects the agent.
func (c *Client) URL() string { return c.base }

// Status returns the agent's status, decoded and as the agent sent it. Only a
// caller on the agent's machine, or one with its token, gets more than the first
// five fields.
func (c *Client) Status(ctx context.Context) (*agent.Status, json.RawMessage, error) {
	raw, err := c.call(ctx, callTimeout, http.MethodGet, "/api/status", nil)
	if err != nil {
		return nil, nil, err
	}
	var s agent.Status
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, nil, fmt.Errorf("agent at %s: its status cannot be read: %w", c.base, err)
	}
	return &s, raw, nil
}

// Engines returns the engines installed on the machine, as the agent sent them.
func (c *Client) Engines(ctx context.Context) (json.RawMessage, error) {
	return c.call(ctx, callTimeout, http.MethodGet, "/api/engines", nil)
}

// GPUs returns the machine's GPUs and which jobs have them.
func (c *Client) GPUs(ctx context.Context) (*agent.GPUs, error) {
	raw, err := c.call(ctx, callTimeout, http.MethodGet, "/api/gpus", nil)
	if err != nil {
		return nil, err
	}
	var gpus agent.GPUs
	if err := json.Unmarshal(raw, &gpus); err != nil {
		return nil, fmt.Errorf("agent at %s: its GPUs cannot be read: %w", c.base, err)
	}
	return &gpus, nil
}

// A Command is what an agent is to do. ID is chosen by the agent if it is empty.
type Command struct {
	ID      string `json:"command_id,omitempty"`
	TestID  string `json:"test_id,omitempty"`
	Type    string `json:"type"` // such as [agent.TypeRunTest]
	Payload any    `json:"payload,omitempty"`
}

// Command sends a command and returns the agent's answer. It takes up to two
// minutes: a cancel is answered once the job has ended.
func (c *Client) Command(ctx context.Context, cmd Command) (json.RawMessage, error) {
	return c.call(ctx, commandTimeout, http.MethodPost, "/api/commands", cmd)
}

// Heartbeat has the agent send its server a heartbeat now, and returns the server's id
// for the agent. If the server does not accept it, the error is an [*APIError] with
// the reason.
func (c *Client) Heartbeat(ctx context.Context) (agentID string, err error) {
	raw, err := c.call(ctx, heartbeatTimeout, http.MethodPost, "/api/heartbeat", nil)
	if err != nil {
		return "", err
	}
	var answer struct {
		AgentID string `json:"agent_id"`
	}
	err = json.Unmarshal(raw, &answer)
	return answer.AgentID, err
}

// A StopMode says what becomes of the running jobs when an agent is stopped.
type StopMode string

// The modes of Stop. The Python agent knows none of them.
const (
	StopDrain  StopMode = "drain"  // the agent stops once they have ended
	StopCancel StopMode = "cancel" // they are cancelled
)

// Stop asks the agent to stop, and returns how many jobs run.
func (c *Client) Stop(ctx context.Context, mode StopMode) (running int, err error) {
	raw, err := c.call(ctx, callTimeout, http.MethodPost, "/api/stop", map[string]StopMode{"mode": mode})
	if err != nil {
		return 0, err
	}
	var answer struct {
		Running int `json:"running"`
	}
	err = json.Unmarshal(raw, &answer)
	return answer.Running, err
}

// Healthy returns nil if the agent works.
func (c *Client) Healthy(ctx context.Context) error {
	_, err := c.call(ctx, callTimeout, http.MethodGet, "/healthz", nil)
	return err
}

// Ready returns nil if the agent can also take work from its server. Otherwise
// the error is an [*APIError] that gives the reason.
func (c *Client) Ready(ctx context.Context) error {
	_, err := c.call(ctx, callTimeout, http.MethodGet, "/readyz", nil)
	return err
}
