package kittapi

import (
	"errors"
	"net/http"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/internal/rules"
)

// tokens are those in force.
type tokens struct {
	agent  agent.Secret
	server agent.Secret // empty if the agent's stands for it
}

// of returns the token for a call.
func (t tokens) of(k key) agent.Secret {
	if k == serverKey && t.server != "" {
		return t.server
	}
	return t.agent
}

// token returns the token for a call.
func (c *Client) token(k key) agent.Secret { return c.tokens.Load().of(k) }

// readTokens reads the tokens again after an answer of 401 or 403 to a request that was
// sent with used, and reports whether another try with others makes sense.
func (c *Client) readTokens(err error, used *tokens) bool {
	if c.cfg.ReadTokens == nil || !isDenied(err) {
		return false
	}
	if *c.tokens.Load() != *used {
		return true // another request has read them meanwhile
	}
	now := tokens{}
	now.agent, now.server = c.cfg.ReadTokens()
	if now == *used {
		return false
	}
	if err := errors.Join(rules.Token(now.agent.Reveal()), rules.Token(now.server.Reveal())); err != nil {
		c.log.Warn("changed token not used", "err", err)
		return false
	}
	c.log.Info("tokens read again after the server refused them")
	c.tokens.Store(&now)
	return true
}

// isDenied reports whether err is an answer of 401 or 403, whoever gave it.
func isDenied(err error) bool {
	if rejected, ok := errors.AsType[*reporter.RejectedError](err); ok {
		return rejected.Code == http.StatusForbidden
	}
	if blocked, ok := errors.AsType[*reporter.BlockedError](err); ok {
		return blocked.Code == http.StatusForbidden
	}
	return errors.Is(err, ErrUnauthorized)
}
