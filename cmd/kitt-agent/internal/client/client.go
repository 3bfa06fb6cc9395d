// Package client speaks to the agent that runs on this machine, over the HTTP
// API that it serves.
//
// A [Client] is what the commands status, logs, stop and test are made of. It
// speaks http or https as agent.yaml says, sends the agent's token where the
// API asks for one, and understands the Python agent's API too. Every call has
// a deadline, every answer a bound.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
)

// Deadlines of the calls, and the bound of an answer in bytes.
const (
	dialTimeout      = 3 * time.Second
	handshakeTimeout = 5 * time.Second
	callTimeout      = 10 * time.Second
	maxAnswer        = 8 << 20

	// commandTimeout bounds a command that waits for a job to stop, which takes
	// the job's grace.
	commandTimeout = 2 * time.Minute
)

// ErrNotRunning is matched by errors that say that no agent listens.
var ErrNotRunning = errors.New("the agent is not running")

// An APIError is the agent's refusal.
type APIError struct {
	Status  int    // HTTP status
	Message string // the agent's text; empty if it gave none
}

// Error returns the agent's text, with advice where there is some.
func (e *APIError) Error() string {
	text := e.Message
	if text == "" {
		text = http.StatusText(e.Status)
	}
	if e.Status == http.StatusUnauthorized {
		return text + ": the running agent has another token than agent.yaml; restart it, or run the command as its user"
	}
	return fmt.Sprintf("the agent refuses: %s (HTTP %d)", text, e.Status)
}

// A Client speaks to one agent. Its methods are safe for concurrent use.
type Client struct {
	base  string
	token agent.Secret
	http  *http.Client
}

// New returns a client for the agent that c configures. It reads the
// certificate's files if the agent serves TLS.
func New(c *config.Config) (*Client, error) {
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout: handshakeTimeout,
		DisableKeepAlives:   true,
	}
	if c.ServesTLS() {
		tlsConfig, err := tlsConfig(c)
		if err != nil {
			return nil, err
		}
		transport.TLSClientConfig = tlsConfig
	}
	return &Client{
		base:  c.LocalURL(),
		token: c.Token,
		http: &http.Client{
			Transport: transport,
			// Nobody but the agent gets the token.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// URL returns where the client looks for the agent.
func (c *Client) URL() string { return c.base }

// Status returns how the agent fares, and its whole answer as it came.
func (c *Client) Status(ctx context.Context) (*Status, json.RawMessage, error) {
	raw, err := c.call(ctx, callTimeout, http.MethodGet, "/api/status", nil)
	if err != nil {
		return nil, nil, err
	}
	var s Status
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, nil, fmt.Errorf("agent at %s: its status cannot be read: %w", c.base, err)
	}
	return &s, raw, nil
}

// Engines returns the engines installed on the machine, as the agent tells.
func (c *Client) Engines(ctx context.Context) (json.RawMessage, error) {
	return c.call(ctx, callTimeout, http.MethodGet, "/api/engines", nil)
}

// A Command is an order for the agent.
type Command struct {
	ID      string `json:"command_id,omitempty"`
	TestID  string `json:"test_id,omitempty"`
	Type    string `json:"type"`
	Payload any    `json:"payload,omitempty"`
}

// Command hands the agent a command and returns its answer. It waits up to two
// minutes, as a cancel ends only when the job has.
func (c *Client) Command(ctx context.Context, cmd Command) (json.RawMessage, error) {
	return c.call(ctx, commandTimeout, http.MethodPost, "/api/commands", cmd)
}

// The modes of Stop.
const (
	StopDrain  = "drain"  // once the running jobs have ended
	StopCancel = "cancel" // after ending them
)

// Stop asks the agent to stop, and returns how many jobs run.
func (c *Client) Stop(ctx context.Context, mode string) (running int, err error) {
	raw, err := c.call(ctx, callTimeout, http.MethodPost, "/api/stop", map[string]string{"mode": mode})
	if err != nil {
		return 0, err
	}
	var answer struct {
		Running int `json:"running"`
	}
	return answer.Running, json.Unmarshal(raw, &answer)
}

// Healthy returns nil if the agent works.
func (c *Client) Healthy(ctx context.Context) error {
	_, err := c.call(ctx, callTimeout, http.MethodGet, "/healthz", nil)
	return err
}

// call sends one request and returns the JSON that answers it.
func (c *Client) call(ctx context.Context, timeout time.Duration, method, path string, body any) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	resp, err := c.do(ctx, method, path, body, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, c.explain(err)
	}
	if len(raw) > maxAnswer {
		return nil, fmt.Errorf("agent at %s: its answer is longer than %d bytes", c.base, maxAnswer)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, apiError(resp.StatusCode, raw)
	}
	if !json.Valid(raw) {
		return nil, fmt.Errorf("what answers at %s is no KITT agent: it sent no JSON", c.base)
	}
	return raw, nil
}

func (c *Client) do(ctx context.Context, method, path string, body any, header http.Header) (*http.Response, error) {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, content)
	if err != nil {
		return nil, err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Authorization", "Bearer "+c.token.Reveal())
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.explain(err)
	}
	return resp, nil
}

// explain makes an error of the network one that an operator understands.
func (c *Client) explain(err error) error {
	if urlErr, ok := errors.AsType[*url.Error](err); ok {
		err = urlErr.Err
	}
	switch text := err.Error(); {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: nothing listens at %s", ErrNotRunning, c.base)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("agent at %s does not answer: %w", c.base, err)
	case strings.Contains(text, "server gave HTTP response to HTTPS client"):
		return fmt.Errorf("agent at %s answers over http: it was started before its certificate was configured; restart it", c.base)
	case strings.Contains(text, "malformed HTTP response"), errors.Is(err, syscall.ECONNRESET) && strings.HasPrefix(c.base, "http:"):
		return fmt.Errorf("agent at %s does not speak http: it may serve https with a certificate that agent.yaml no longer names; restart it", c.base)
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fmt.Errorf("what answers at %s shows another certificate than tls.cert and tls.ca of agent.yaml allow: %w", c.base, err)
	}
	if strings.Contains(err.Error(), "remote error: tls: ") {
		return fmt.Errorf("agent at %s does not take the certificate that agent.yaml names: %w; see kitt-agent certs show", c.base, err)
	}
	return fmt.Errorf("agent at %s: %w", c.base, err)
}

// apiError reads the agent's refusal.
func apiError(status int, body []byte) error {
	var said struct {
		Error  string `json:"error"`
		Status string `json:"status"`
	}
	if json.Unmarshal(body, &said) != nil {
		said.Error = ""
	}
	if said.Error == "" && said.Status != "" {
		said.Error = said.Status
	}
	return &APIError{Status: status, Message: said.Error}
}
