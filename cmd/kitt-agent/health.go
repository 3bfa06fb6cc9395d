package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
)

// How long the server has for its word, and how much of it is read.
const (
	healthTimeout = 5 * time.Second
	maxHealth     = 64 << 10
)

// checkServer asks the server how it is. The error is a sentence that says what
// to look at.
func checkServer(ctx context.Context, cfg *config.Config, insecure bool) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure}
	if cfg.TLS.CA != "" {
		pem, err := os.ReadFile(config.Expand(cfg.TLS.CA))
		if err != nil {
			return fmt.Errorf("tls.ca: %w", err)
		}
		tlsConfig.RootCAs = x509.NewCertPool()
		if !tlsConfig.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("tls.ca: %s holds no certificate", cfg.TLS.CA)
		}
	}
	if cfg.ServesTLS() {
		own, err := tls.LoadX509KeyPair(config.Expand(cfg.TLS.Cert), config.Expand(cfg.TLS.Key))
		if err != nil {
			return fmt.Errorf("tls.cert and tls.key: %w", err)
		}
		tlsConfig.Certificates = []tls.Certificate{own}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, cfg.ServerURL+"/api/v1/health", nil)
	if err != nil {
		return err
	}
	c := &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: tlsConfig, DisableKeepAlives: true}}
	resp, err := c.Do(req)
	if err != nil {
		return explainServer(cfg, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxHealth))
	if err != nil {
		return explainServer(cfg, err)
	}
	var answer struct {
		Status string `json:"status"`
	}
	if json.Unmarshal(body, &answer) != nil || answer.Status != "ok" {
		return fmt.Errorf("what answers at %s is no KITT server (HTTP %d)", cfg.ServerURL, resp.StatusCode)
	}
	return nil
}

func explainServer(cfg *config.Config, err error) error {
	if urlErr, ok := errors.AsType[*url.Error](err); ok {
		err = urlErr.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s did not answer within %s", cfg.ServerURL, healthTimeout)
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		advice := "give its authority with --ca FILE"
		if cfg.TLS.CA != "" {
			advice = "tls.ca is not the authority that signed it, or the certificate is for other names"
		}
		return fmt.Errorf("the certificate of %s cannot be verified: %w; %s", cfg.ServerURL, err, advice)
	}
	return fmt.Errorf("%s: %w", cfg.ServerURL, err)
}
