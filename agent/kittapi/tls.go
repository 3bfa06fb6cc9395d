package kittapi

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// sessions is how many TLS sessions are kept for resumption.
const sessions = 32

// newTLS returns the client's side of TLS with the server at host.
func newTLS(cfg Config, host string) (*tls.Config, error) {
	if (cfg.CertFile == "") != (cfg.KeyFile == "") {
		return nil, errors.New("a certificate needs its key, and a key its certificate")
	}
	t := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ClientSessionCache: tls.NewLRUClientSessionCache(sessions),
		InsecureSkipVerify: cfg.Insecure,
	}
	if cfg.CertFile != "" {
		pair := &keyPair{certFile: cfg.CertFile, keyFile: cfg.KeyFile}
		if _, err := pair.get(); err != nil {
			return nil, err
		}
		t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair.get() }
	}
	if cfg.CAFile == "" || cfg.Insecure {
		return t, nil
	}
	pool := &caPool{file: cfg.CAFile}
	if _, err := pool.get(); err != nil {
		return nil, err
	}
	// Roots cannot change once a Config is in use, so the chain is checked here,
	// as crypto/tls would have, against those that are in the file now.
	t.InsecureSkipVerify = true
	t.VerifyConnection = func(state tls.ConnectionState) error {
		roots, err := pool.get()
		if err != nil {
			return err
		}
		return verify(state, roots, host)
	}
	return t, nil
}

// verify checks the server's chain and name as crypto/tls does by default. The
// name is the one in the URL: a connection to an address has none of its own.
func verify(state tls.ConnectionState, roots *x509.CertPool, host string) error {
	opts := x509.VerifyOptions{Roots: roots, DNSName: host, Intermediates: x509.NewCertPool()}
	for _, cert := range state.PeerCertificates[1:] {
		opts.Intermediates.AddCert(cert)
	}
	if _, err := state.PeerCertificates[0].Verify(opts); err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: err}
	}
	return nil
}

// stamp tells whether a file has changed.
type stamp struct {
	modified time.Time
	size     int64
}

func stampOf(path string) (stamp, error) {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}, err
	}
	return stamp{info.ModTime(), info.Size()}, nil
}

// keyPair is a certificate and its key on disk.
type keyPair struct {
	certFile, keyFile string

	mu    sync.Mutex
	stamp [2]stamp
	pair  *tls.Certificate
}

// get returns the certificate, read again if it has changed. While a new one is
// half written the old one stays.
func (k *keyPair) get() (*tls.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	cert, certErr := stampOf(k.certFile)
	key, keyErr := stampOf(k.keyFile)
	now := [2]stamp{cert, key}
	if k.pair != nil && (certErr != nil || keyErr != nil || now == k.stamp) {
		return k.pair, nil
	}
	pair, err := tls.LoadX509KeyPair(k.certFile, k.keyFile)
	switch {
	case err == nil:
		k.pair, k.stamp = &pair, now
	case k.pair == nil:
		return nil, fmt.Errorf("client certificate: %w", err)
	}
	return k.pair, nil
}

// caPool is a file of CA certificates.
type caPool struct {
	file string

	mu    sync.Mutex
	stamp stamp
	pool  *x509.CertPool
}

// get returns the certificates, read again if the file has changed.
func (c *caPool) get() (*x509.CertPool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, err := stampOf(c.file)
	if c.pool != nil && (err != nil || now == c.stamp) {
		return c.pool, nil
	}
	text, err := os.ReadFile(c.file)
	if err != nil {
		if c.pool != nil {
			return c.pool, nil
		}
		return nil, fmt.Errorf("CA: %w", err)
	}
	pool := x509.NewCertPool()
	switch {
	case pool.AppendCertsFromPEM(text):
		c.pool, c.stamp = pool, now
	case c.pool == nil:
		return nil, fmt.Errorf("CA: %s holds no certificate", c.file)
	}
	return c.pool, nil
}
