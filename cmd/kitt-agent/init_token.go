package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/kirizan/kitt-agent/agent/kittapi"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
	"github.com/kirizan/kitt-agent/heartbeat"
)

// listTimeout is how long the server may take to list its agents.
const listTimeout = 20 * time.Second

// Lengths of tokens, in characters: of one that is long enough to be secret, and
// of the part that the server shows to everybody.
const (
	longToken    = 32
	prefixLength = 8
)

// serverView is what the server says to init.
type serverView struct {
	healthErr error // why it was not reached
	agentErr  error // why it did not say whether it knows the agent's name
	agent     *kittapi.AgentRow
}

// unregistered reports whether the server was asked and doesn't know the name.
func (s serverView) unregistered() bool { return s.agentErr == nil && s.agent == nil }

// lookUp asks the server how it is and what it knows of the agent. It changes
// nothing there.
func lookUp(ctx context.Context, cfg *config.Config, insecure bool) serverView {
	var s serverView
	if s.healthErr = checkServer(ctx, cfg, insecure); s.healthErr != nil {
		s.agentErr = s.healthErr
		return s
	}
	asking := *cfg
	asking.Insecure = insecure
	server, err := newServerWithin(&asking, slog.New(slog.DiscardHandler), listTimeout)
	if err != nil {
		s.agentErr = err
		return s
	}
	row, err := server.FindAgent(ctx, cfg.Name)
	switch {
	case err == nil:
		s.agent = &row
	case !errors.Is(err, heartbeat.ErrUnknownAgent):
		s.agentErr = err
	}
	return s
}

// tokenOrigin is what init did about the token.
type tokenOrigin int

const (
	tokenAsGiven tokenOrigin = iota // by flags, variables or agent.yaml, if at all
	tokenKept                       // although another one was asked for
	tokenMade
)

// setToken gives the file a token where it has none and should have one. A token
// is made only where the server takes it: from an agent that it doesn't know yet,
// or on demand from one that has none there. One that the agent has is kept, since
// the server would refuse another for ever.
func (env *environment) setToken(file *config.File, cfg *config.Config, flags initFlags, s serverView) (tokenOrigin, error) {
	locked := s.agent != nil && s.agent.TokenPrefix != ""
	switch {
	case cfg.Token != "" && flags.newToken:
		return tokenKept, nil
	case cfg.Token != "":
		return tokenAsGiven, nil
	case flags.force && !flags.newToken:
		if token := env.oldToken(cfg); token != "" {
			return tokenAsGiven, file.Set("token", token)
		}
	case flags.newToken && locked && !flags.force:
		return 0, fmt.Errorf("the server has a token for agent %s and would refuse a new one; agent.yaml stays as it is. "+
			"Give that token: kitt-agent init --token-file FILE. If it is lost: %s With --force a new one is written all the same",
			quote(cfg.Name), replaceToken(cfg, s))
	}
	if flags.newToken || s.unregistered() {
		return tokenMade, file.Set("token", newToken())
	}
	return tokenAsGiven, nil
}

func newToken() string {
	token := make([]byte, 32)
	rand.Read(token) // never fails
	return hex.EncodeToString(token)
}

// oldToken returns the token in the file that init --force replaces, if it is the
// same agent's of the same server. The server goes on asking for it.
func (env *environment) oldToken(cfg *config.Config) string {
	file, err := config.Open(cfg.Path)
	if err != nil {
		return ""
	}
	old, _, err := file.Check(env.getenv)
	if err != nil || old.Name != cfg.Name || old.ServerURL != cfg.ServerURL {
		return ""
	}
	return old.Token.Reveal()
}

// replaceToken says how the agent gets another token that the server takes.
func replaceToken(cfg *config.Config, s serverView) string {
	const install = "kitt-agent init --token-file FILE"
	switch {
	case s.unregistered():
		return "Another one: " + install + "; the server takes it when the agent first registers."
	case s.agent == nil:
		return "Once the agent is registered only the server makes another one: POST " + cfg.ServerURL + "/api/v1/agents/<agent id>/rotate-token" +
			"; put the token of its answer into a file, run " + install + " and restart the agent."
	}
	return fmt.Sprintf("The server makes another one: POST %s/api/v1/agents/%s/rotate-token, with the server's own token where it has one; "+
		"put the token of its answer into a file, run %s and restart the agent.", cfg.ServerURL, printable(s.agent.ID), install)
}

// tokenWarnings returns what there is to know about the agent's token.
func tokenWarnings(cfg *config.Config, s serverView, origin tokenOrigin) []string {
	token := cfg.Token.Reveal()
	var warnings []string
	warn := func(text string) { warnings = append(warnings, text) }
	if origin == tokenKept {
		warn("--new-token: the agent has a token already, which stays. " + replaceToken(cfg, s))
	}
	switch {
	case s.agent != nil && s.agent.TokenPrefix == "":
		warn(fmt.Sprintf("the server knows agent %s without a token and still trusts anybody who uses that name. %s", quote(cfg.Name), replaceToken(cfg, s)))
	case s.agent != nil && token == "":
		warn(fmt.Sprintf("the server has a token for agent %s and agent.yaml has none, so the server refuses this agent. "+
			"Give the token: kitt-agent init --token-file FILE. If it is lost: %s", quote(cfg.Name), replaceToken(cfg, s)))
	case s.agent != nil && token[:min(len(token), prefixLength)] != s.agent.TokenPrefix:
		warn(fmt.Sprintf("the server has another token for agent %s than agent.yaml, so it refuses this agent. %s", quote(cfg.Name), replaceToken(cfg, s)))
	case s.agentErr != nil && token == "":
		warn("the agent has no token, so anybody can speak to the server in its name. One is made by kitt-agent init once the server answers " +
			"that it doesn't know the agent; run it again before the agent first starts")
	case s.agentErr != nil && origin == tokenMade:
		warn(fmt.Sprintf("the server did not say whether it knows agent %s. If it has a token for it, it refuses the new one. %s", quote(cfg.Name), replaceToken(cfg, s)))
	}
	if token != "" && len(token) < longToken {
		warn("the token is short, and the server shows the first 8 characters of it to everybody. " + replaceToken(cfg, s))
	}
	return warnings
}
