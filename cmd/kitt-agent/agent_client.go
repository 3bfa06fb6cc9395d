package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"github.com/kirizan/kitt-agent/agent/client"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
)

// newAgentClient returns a client for the agent that cfg configures. It reads the
// certificate's files if that agent serves TLS.
func newAgentClient(cfg *config.Config) (*client.Client, error) {
	settings := client.Config{URL: cfg.LocalURL(), Token: cfg.Token, Source: "agent.yaml"}
	if cfg.ServesTLS() {
		own, roots, err := readTLS(cfg)
		if err != nil {
			return nil, err
		}
		if settings.TLS, err = client.OwnTLS(settings.URL, own, roots); err != nil {
			return nil, err
		}
	}
	return client.New(settings)
}

// readTLS returns the agent's certificate and the authorities that may have signed
// another one: nil for the system's.
func readTLS(cfg *config.Config) (own tls.Certificate, roots *x509.CertPool, err error) {
	files := tlsFiles(cfg)
	own, err = tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		return own, nil, fmt.Errorf("tls.cert and tls.key of %s: %w", cfg.Path, err)
	}
	if files.CA == "" {
		return own, nil, nil
	}
	pem, err := os.ReadFile(files.CA)
	if err != nil {
		return own, nil, fmt.Errorf("tls.ca of %s: %w", cfg.Path, err)
	}
	roots = x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return own, nil, fmt.Errorf("tls.ca of %s: no certificate in %s", cfg.Path, cfg.TLS.CA)
	}
	return own, roots, nil
}

// agentClient returns the settings in force and a client of the agent that has them.
func (env *environment) agentClient() (*config.Config, *client.Client, error) {
	cfg, err := env.config(nil)
	if err != nil {
		return nil, nil, err
	}
	c, err := newAgentClient(cfg)
	return cfg, c, err
}
