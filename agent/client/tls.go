package client

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
)

// OwnTLS returns how a program speaks to an agent at address whose certificate,
// own, it shares, as a program on the same machine does. It accepts that very
// certificate, whatever that was made for, and others that roots signed for the
// host in address; nil means the system's roots. It presents own where the agent
// asks for a certificate.
//
// KITT's own certificates need this: they are made for clients and name no
// address.
func OwnTLS(address string, own tls.Certificate, roots *x509.CertPool) (*tls.Config, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	if len(own.Certificate) == 0 {
		return nil, fmt.Errorf("client: the certificate for %s is empty", address)
	}
	host := u.Hostname() // the ConnectionState's ServerName is empty for an address
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{own},
		// VerifyConnection verifies. The usual way would reject own where it was
		// made for clients only, or does not name the host.
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
