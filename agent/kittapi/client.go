package kittapi

import (
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/reporter"
)

// A Client is a client of one KITT server. Its methods are safe for concurrent use.
// Each sends one request, or one for each page of a list.
type Client struct {
	cfg  Config
	base string // address of the API
	http *http.Client
	log  *slog.Logger

	tokens atomic.Pointer[tokens] // in force
}

var (
	_ agent.Server        = (*Client)(nil)
	_ reporter.Reporter   = (*Client)(nil)
	_ reporter.Checker    = (*Client)(nil)
	_ reporter.Inquirer   = (*Client)(nil)
	_ reporter.TestFinder = (*Client)(nil)

	_ reporter.EncodedReporter = (*Client)(nil)
	_ agent.HeartbeatReader    = (*Client)(nil)
)

// New returns a client. It reads the certificate files and sends no request. The
// error joins everything that is wrong with cfg and the files.
func New(cfg Config) (*Client, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("kittapi: %w", err)
	}
	base, err := cfg.base()
	if err != nil {
		return nil, fmt.Errorf("kittapi: %w", err)
	}
	c := &Client{cfg: cfg, base: base, log: cfg.Logger}
	c.tokens.Store(&tokens{agent: cfg.Token, server: cfg.ServerToken})
	transport := cfg.Transport
	if transport == nil {
		if transport, err = newReloader(cfg); err != nil {
			return nil, fmt.Errorf("kittapi: %w", err)
		}
	}
	c.http = &http.Client{
		Transport: transport,
		// A redirected POST would become a GET, and only this server may get the
		// token.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}
