package kittapi

import (
	"fmt"
	"log/slog"
	"net/http"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/reporter"
)

// A Client speaks to one KITT server. Its methods are safe for concurrent use;
// each makes one request, or one a page where it reads a list.
type Client struct {
	cfg  Config
	base string // address of the API
	http *http.Client
	log  *slog.Logger
	tls  *reloader // nil with a Transport of the caller's
}

var (
	_ agent.Server        = (*Client)(nil)
	_ reporter.Reporter   = (*Client)(nil)
	_ reporter.Checker    = (*Client)(nil)
	_ reporter.Inquirer   = (*Client)(nil)
	_ reporter.TestFinder = (*Client)(nil)

	_ reporter.EncodedReporter = (*Client)(nil)
)

// New returns a client. It reads the certificate files and makes no request.
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
	transport := cfg.Transport
	if transport == nil {
		if c.tls, err = newReloader(cfg); err != nil {
			return nil, fmt.Errorf("kittapi: %w", err)
		}
		transport = c.tls
	}
	c.http = &http.Client{
		Transport: transport,
		// A redirected POST would become a GET, and the token is for this
		// server only.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}
