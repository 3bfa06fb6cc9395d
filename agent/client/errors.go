package client

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"syscall"
)

// ErrNotRunning is matched by the errors of calls that found no agent: nothing
// listens at its address.
var ErrNotRunning = errors.New("the agent is not running")

// An APIError is an answer by which the agent rejects a request.
type APIError struct {
	Status  int    // HTTP status
	Message string // the agent's text; empty if it sent none

	source string // see Config.Source
}

// Error returns the agent's text, and for a wrong token what to do.
func (e *APIError) Error() string {
	text := e.Message
	if text == "" {
		text = http.StatusText(e.Status)
	}
	if e.Status == http.StatusUnauthorized {
		return text + ": the running agent has another token than " + e.source + "; restart it, or run the command as its user"
	}
	return fmt.Sprintf("the agent refuses: %s (HTTP %d)", text, e.Status)
}

// apiError returns the error for an answer with that status and body.
func (c *Client) apiError(status int, body []byte) error {
	var answer struct {
		Error  string `json:"error"`
		Status string `json:"status"`
	}
	if json.Unmarshal(body, &answer) != nil {
		answer.Error = ""
	}
	if answer.Error == "" {
		answer.Error = answer.Status
	}
	return &APIError{Status: status, Message: answer.Error, source: c.source}
}

// explain returns an error of the network as one that an operator understands.
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
		return fmt.Errorf("agent at %s does not speak http: it may serve https with a certificate that %s no longer names; restart it", c.base, c.source)
	case strings.Contains(text, "remote error: tls: "):
		return fmt.Errorf("agent at %s does not take the certificate that %s names: %w; see kitt-agent certs show", c.base, c.source, err)
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fmt.Errorf("what answers at %s shows another certificate than tls.cert and tls.ca of %s allow: %w", c.base, c.source, err)
	}
	return fmt.Errorf("agent at %s: %w", c.base, err)
}
