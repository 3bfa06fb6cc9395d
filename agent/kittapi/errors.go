package kittapi

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/heartbeat"
)

// ErrUnauthorized is matched by the error of a request that was answered with
// 401: it carried no token where one is needed. It is an outage rather than the
// server's final word, since a proxy may be the one that asks. It is
// [heartbeat.ErrUnauthorized].
var ErrUnauthorized = heartbeat.ErrUnauthorized

// errNoRoute is matched by a 404 that is not the API's own: nothing answers at
// the address, as with a server of another version.
var errNoRoute = errors.New("nothing is at this address")

// CancelledByUser is the reason that KITT gives for a test that somebody
// stopped; its status is failed, as there is no word for cancelled.
const CancelledByUser = "Cancelled by user"

// key says which token a call is made with.
type key int

const (
	noKey     key = iota // needs none; the agent's is sent all the same
	agentKey             // the agent's own
	serverKey            // the operator's, or else the agent's
)

// token returns the token for a call.
func (c *Client) token(k key) agent.Secret {
	if k == serverKey && c.cfg.ServerToken != "" {
		return c.cfg.ServerToken
	}
	return c.cfg.Token
}

// forbidden says what an operator does about a 403. The server's own text says
// only that a token is not right.
func (c *Client) forbidden(k key) string {
	switch {
	case k == agentKey && c.cfg.Token == "":
		return "the server has a token for this agent; write it into agent.yaml as token"
	case k == agentKey:
		return "this agent's token was replaced on the server or is wrong, so the server turns the agent away. " +
			"Anyone who opens the server's install.sh with this agent's name replaces it. An operator gets a new one from " +
			"POST /api/v1/agents/<agent id>/rotate-token and writes it into agent.yaml as token"
	case k == serverKey && c.cfg.ServerToken == "":
		return "the server was started with a token of its own (--auth-token or KITT_AUTH_TOKEN) and takes logs and " +
			"statuses only with that one; write it into agent.yaml as server_token"
	case k == serverKey:
		return "server_token in agent.yaml is not the token that the server was started with (--auth-token or KITT_AUTH_TOKEN)"
	}
	return ""
}

// unauthorized says what an operator does about a 401.
func (c *Client) unauthorized(k key) string {
	switch {
	case c.token(k) != "":
		return "the token did not arrive; a proxy between here and the server may take the Authorization header away or ask for one of its own"
	case k == agentKey:
		return "the server has a token for this agent; write it into agent.yaml as token, or have an operator make a new one with " +
			"POST /api/v1/agents/<agent id>/rotate-token"
	case k == serverKey:
		return "the server was started with a token of its own (--auth-token or KITT_AUTH_TOKEN); write it into agent.yaml as server_token"
	}
	return "something between here and the server asks for a login"
}

// refused returns the error for the server's own final word.
func (c *Client) refused(k key, status int, text string) error {
	text = printable(text)
	if status == http.StatusForbidden {
		if hint := c.forbidden(k); hint != "" {
			text += ": " + hint
		}
	}
	return &reporter.RejectedError{Code: status, Message: text}
}

// unreachable adds to the error of a request without an answer what may be done
// about it, where that is known.
func unreachable(err error) error {
	if hint := connectionHint(err); hint != "" {
		return fmt.Errorf("%w: %s", err, hint)
	}
	return err
}

func connectionHint(err error) string {
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "the certificate that kitt web makes for itself names localhost only; give the server one with its host name " +
			"(kitt web --tls-cert and --tls-key), or use --insecure"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "set tls.ca in agent.yaml to the server's CA file (on the server, ~/.kitt/certs/ca.pem)"
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || strings.Contains(err.Error(), "HTTP response to HTTPS client") {
		return "the server speaks plain http at this address; server_url should begin with http://"
	}
	switch text := err.Error(); {
	case strings.Contains(text, "remote error: tls: certificate required"):
		return "the server, or a proxy before it, asks for the agent's certificate; set tls.cert and tls.key (kitt-agent certs renew)"
	case strings.Contains(text, "remote error: tls: expired certificate"), strings.Contains(text, "remote error: tls: bad certificate"),
		strings.Contains(text, "remote error: tls: unknown certificate authority"):
		return "the server, or a proxy before it, does not take the agent's certificate; see kitt-agent certs show"
	}
	return ""
}

// maxText bounds a foreign text in an error.
const maxText = 400

// printable returns s in one line, without control characters and of bounded
// length.
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
