package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/kirizan/kitt-agent/agent/certs"
	"github.com/kirizan/kitt-agent/agent/health"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
)

// insecureWarning is said wherever --insecure is given, and by status for as long
// as the agent runs with it.
const insecureWarning = "--insecure: the server's certificate is not verified, so anybody can answer in its place and read the tokens; for development only"

// insecureFlag gives a command that speaks to the server the flag --insecure. The
// agent's own certificate is presented, and its own API verified, all the same.
func (env *environment) insecureFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&env.insecure, "insecure", false, "do not verify the server's certificate; for development only")
}

// tlsFiles returns the files of the agent's identity that cfg names.
func tlsFiles(cfg *config.Config) certs.Files {
	return certs.Files{Cert: config.Expand(cfg.TLS.Cert), Key: config.Expand(cfg.TLS.Key), CA: config.Expand(cfg.TLS.CA)}
}

// certificate returns what there is to know of the agent's certificate, nil where
// it has none that can be read.
func certificate(cfg *config.Config, now time.Time) *certs.Info {
	if !cfg.ServesTLS() {
		return nil
	}
	chain, err := certs.ReadCertificates(tlsFiles(cfg).Cert)
	if err != nil {
		return nil
	}
	info := certs.Describe(chain[0], now)
	return &info
}

// lasts says how long a certificate can be used.
func lasts(c *certs.Info) string {
	date := c.Expires.UTC().Format(time.DateOnly)
	if c.DaysLeft < 0 {
		return "expired on " + date
	}
	return fmt.Sprintf("until %s (%d days left)", date, c.DaysLeft)
}

// tlsWarnings returns what status warns about.
func tlsWarnings(cfg *config.Config, now time.Time) []string {
	said := certs.Expiry(tlsFiles(cfg), now)
	if cfg.Insecure {
		said = append(said, insecureWarning)
	}
	return said
}

// certificateUrgent is how long before a certificate ends the agent counts as degraded.
const certificateUrgent = 7 * 24 * time.Hour

// tlsProblems returns which certificates have expired or will soon.
func tlsProblems(cfg *config.Config, now time.Time) (problems []health.Problem) {
	ends, _ := certs.Ends(tlsFiles(cfg)) // tlsWarnings names files that cannot be read
	for _, e := range ends {
		reason := health.CertificateExpiring
		left := e.Expires.Sub(now)
		switch {
		case left < 0:
			reason = health.CertificateExpired
		case left > certificateUrgent:
			continue
		}
		p := health.New(reason, fmt.Sprintf("%s (%s), on %s", e.What, e.File, e.Expires.UTC().Format(time.DateOnly)))
		p.Remedy = e.Fix
		problems = append(problems, p)
	}
	return problems
}

// serverTLS returns how the agent's API is served, nil for plain HTTP.
func serverTLS(cfg *config.Config, log *slog.Logger) (*tls.Config, error) {
	if !cfg.ServesTLS() {
		return nil, nil
	}
	loader, err := certs.NewLoader(tlsFiles(cfg), log)
	if err != nil {
		return nil, fmt.Errorf("certificate of the agent's API: %w", err)
	}
	return loader.ServerConfig(cfg.RequireClientCert), nil
}
