package kittapi

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode"

	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/heartbeat"
)

// ErrUnauthorized is matched by the error of a request that was answered with 401: it
// had no token, but needs one. It counts as an outage and not as a rejection, because
// the answer may come from a proxy. It is [heartbeat.ErrUnauthorized].
var ErrUnauthorized = heartbeat.ErrUnauthorized

// errNoRoute is matched by a 404 that does not come from the API: the path does not
// exist, for example because the server has another version.
var errNoRoute = errors.New("nothing is at this address")

// CancelledByUser is KITT's error text for a test that an operator stopped. Its
// status is failed, since KITT has no status for cancelled.
const CancelledByUser = "Cancelled by user"

// A key selects the token of a call.
type key int

const (
	noKey     key = iota // no token is needed; the agent's is sent anyway
	agentKey             // the agent's token
	serverKey            // the operator's token or, if there is none, the agent's
)

// forbidden returns what an operator can do about a 403. The server's text only
// says that the token is wrong.
func (c *Client) forbidden(k key) string {
	switch {
	case k == agentKey && c.tokens.Load().agent == "":
		return "the server has a token for this agent; set it as token in agent.yaml"
	case k == agentKey:
		return "this agent's token is wrong or was replaced on the server, so the server rejects the agent. " +
			"Opening the server's install.sh with this agent's name replaces it. Get a new one with " +
			"POST /api/v1/agents/<agent id>/rotate-token and set it as token in agent.yaml"
	case k == serverKey && c.tokens.Load().server == "":
		return "the server was started with its own token (--auth-token or KITT_AUTH_TOKEN) and requires it for logs and " +
			"statuses; set it as server_token in agent.yaml"
	case k == serverKey:
		return "server_token in agent.yaml is not the token that the server was started with (--auth-token or KITT_AUTH_TOKEN)"
	}
	return ""
}

// unauthorized returns what an operator can do about a 401.
func (c *Client) unauthorized(k key) string {
	switch {
	case c.token(k) != "":
		return "the token did not arrive; a proxy may remove the Authorization header or require one of its own"
	case k == agentKey:
		return "the server has a token for this agent; set it as token in agent.yaml, or get a new one with " +
			"POST /api/v1/agents/<agent id>/rotate-token"
	case k == serverKey:
		return "the server was started with its own token (--auth-token or KITT_AUTH_TOKEN); set it as server_token in agent.yaml"
	}
	return "a proxy or portal requires a login"
}

// rejected returns the error for a request that the server rejected.
func (c *Client) rejected(k key, status int, text string) error {
	text = printable(text)
	if status == http.StatusForbidden {
		if hint := c.forbidden(k); hint != "" {
			text += ": " + hint
		}
	}
	return &reporter.RejectedError{Code: status, Message: text}
}

// unreachable adds to the error of a request without an answer what an operator can
// do about it, if that is known.
func unreachable(err error) error {
	if hint := connectionHint(err); hint != "" {
		return fmt.Errorf("%w: %s", err, hint)
	}
	return err
}

func connectionHint(err error) string {
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "the certificate that kitt web creates is only for localhost; use one with the server's host name " +
			"(kitt web --tls-cert and --tls-key), or --insecure"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "set tls.ca in agent.yaml to the server's CA file (on the server, ~/.kitt/certs/ca.pem)"
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || strings.Contains(err.Error(), "HTTP response to HTTPS client") {
		return "the server uses plain http at this address; server_url must begin with http://"
	}
	switch text := err.Error(); {
	case strings.Contains(text, "remote error: tls: certificate required"):
		return "the server, or a proxy in front of it, requires the agent's certificate; set tls.cert and tls.key (kitt-agent certs renew)"
	case strings.Contains(text, "remote error: tls: expired certificate"), strings.Contains(text, "remote error: tls: bad certificate"),
		strings.Contains(text, "remote error: tls: unknown certificate authority"):
		return "the server, or a proxy in front of it, rejects the agent's certificate; see kitt-agent certs show"
	}
	return ""
}

// maxText is the most that an error has of a text from elsewhere, in bytes.
const maxText = 400

// printable returns s on one line, without control characters and with at most
// maxText bytes.
func printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		if b.Len() >= maxText {
			b.WriteString("…")
			break
		}
		if unicode.IsSpace(r) {
			r = ' '
		}
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		}
	}
	return strings.TrimSpace(b.String())
}
