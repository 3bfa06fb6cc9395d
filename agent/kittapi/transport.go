package kittapi

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
)

// Time limits of a connection. A KITT server does TLS handshakes in its accept loop,
// so a slow handshake delays all clients.
const (
	dialTimeout      = 10 * time.Second
	handshakeTimeout = 10 * time.Second
)

// reloader is a transport that is replaced when the certificate files change.
type reloader struct {
	transport *base.Reloaded[*http.Transport]
}

func newReloader(cfg Config) (*reloader, error) {
	load := func() (*http.Transport, error) { return newTransport(cfg) }
	tell := func(_ *http.Transport, err error) {
		if err != nil {
			cfg.Logger.Warn("changed certificate files not loaded; still using the previous ones", "err", err)
			return
		}
		cfg.Logger.Info("certificate files reloaded")
	}
	transport, err := base.NewReloaded(cfg.files(), load, tell)
	if err != nil {
		return nil, err
	}
	return &reloader{transport}, nil
}

// RoundTrip sends the request over a new connection.
func (r *reloader) RoundTrip(req *http.Request) (*http.Response, error) {
	return r.transport.Get().RoundTrip(req)
}

func newTransport(cfg Config) (*http.Transport, error) {
	conf, err := tlsConfig(cfg)
	if err != nil {
		return nil, err
	}
	return &http.Transport{
		Proxy:               cfg.Proxy,
		DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:     conf,
		TLSHandshakeTimeout: handshakeTimeout,
		// The server closes every connection. A proxy might keep one open, but
		// reusing it saves little, since TLS sessions are resumed. A request on a
		// reused connection can also fail in a way that leaves its outcome unknown.
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: 64 << 10,
	}, nil
}

// tlsConfig returns the settings of connections over https.
func tlsConfig(cfg Config) (*tls.Config, error) {
	conf := &tls.Config{}
	if cfg.TLS != nil {
		conf = cfg.TLS.Clone()
	}
	conf.MinVersion = max(conf.MinVersion, tls.VersionTLS12)
	conf.InsecureSkipVerify = conf.InsecureSkipVerify || cfg.Insecure
	if conf.ClientSessionCache == nil {
		conf.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	}
	var faults []error
	if name := cfg.CAFile; name != "" {
		pool, err := readPool(name)
		if err != nil {
			faults = append(faults, fmt.Errorf("CAFile: %w", err))
		}
		conf.RootCAs = pool
	}
	if cfg.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
		if err != nil {
			faults = append(faults, fmt.Errorf("CertFile and KeyFile: %w", err))
		}
		// Presented whichever authorities the server requests, because a proxy may
		// request them for it.
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	return conf, errors.Join(faults...)
}

func readPool(name string) (*x509.CertPool, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s has no certificate in PEM form", name)
	}
	return pool, nil
}
