package client

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"

	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
)

// tlsConfig returns how to speak to an agent that serves TLS: its certificate is
// the one that agent.yaml names, or one that the same CA signed for this
// machine. The agent's own certificate is shown if it asks for one.
func tlsConfig(c *config.Config) (*tls.Config, error) {
	own, err := tls.LoadX509KeyPair(config.Expand(c.TLS.Cert), config.Expand(c.TLS.Key))
	if err != nil {
		return nil, fmt.Errorf("tls.cert and tls.key of %s: %w", c.Path, err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if c.TLS.CA != "" {
		pem, err := os.ReadFile(config.Expand(c.TLS.CA))
		if err != nil {
			return nil, fmt.Errorf("tls.ca of %s: %w", c.Path, err)
		}
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls.ca of %s: no certificate in %s", c.Path, c.TLS.CA)
		}
	}
	// Not the ConnectionState's ServerName, which is empty for an address.
	u, err := url.Parse(c.LocalURL())
	if err != nil {
		return nil, err
	}
	host := u.Hostname()
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{own},
		// VerifyConnection does the verifying. The usual way would refuse the
		// agent's very own certificate where it was made for clients only, as
		// KITT's are, or does not name the address that the agent listens on.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			leaf := s.PeerCertificates[0]
			if bytes.Equal(leaf.Raw, own.Certificate[0]) {
				return nil
			}
			between := x509.NewCertPool()
			for _, cert := range s.PeerCertificates[1:] {
				between.AddCert(cert)
			}
			_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: host})
			if err != nil {
				return &tls.CertificateVerificationError{UnverifiedCertificates: s.PeerCertificates, Err: err}
			}
			return nil
		},
	}, nil
}
