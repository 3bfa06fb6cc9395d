package main

import (
	"log/slog"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
)

// A tokenReader reads the tokens again from where the settings came from. Its methods
// are safe for concurrent use.
type tokenReader struct {
	sources config.Sources
	log     *slog.Logger

	mu            sync.Mutex
	read          time.Time // guarded by mu, like all that follows
	token, server agent.Secret
}

// readTokensEvery is the least time between two readings: several requests may be
// refused at the same time.
const readTokensEvery = time.Second

// newTokenReader returns a reader of the tokens of cfg, which has them as they are now.
func (env *environment) newTokenReader(cfg *config.Config, log *slog.Logger) *tokenReader {
	return &tokenReader{
		sources: config.Sources{Path: cfg.Path, Getenv: env.getenv}, log: log,
		token: cfg.Token, server: cfg.ServerToken,
	}
}

// both returns the agent's token and the server's. Settings that cannot be read leave
// those from before in force.
func (t *tokenReader) both() (token, server agent.Secret) {
	if !t.isDue() {
		return t.last()
	}
	cfg, _, err := t.sources.Resolve()
	if err != nil {
		t.log.Warn("tokens not read again, since the settings are not right", "err", err)
		return t.last()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.token, t.server = cfg.Token, cfg.ServerToken
	return t.token, t.server
}

// isDue reports whether the caller is to read the settings.
func (t *tokenReader) isDue() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.read.IsZero() && time.Since(t.read) < readTokensEvery {
		return false
	}
	t.read = time.Now()
	return true
}

// last returns what was read last.
func (t *tokenReader) last() (token, server agent.Secret) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.token, t.server
}

// own returns the agent's token.
func (t *tokenReader) own() agent.Secret {
	token, _ := t.both()
	return token
}
