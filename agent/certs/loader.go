package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"

	"github.com/kirizan/kitt-agent/internal/base"
)

// A Loader holds what is in Files and reads it again when it changes. Files that
// can't be used, as between the two halves of a replacement, leave those before
// in force. Its methods are safe for concurrent use.
type Loader struct{ files *base.Reloaded[loaded] }

// loaded is what the files hold.
type loaded struct {
	pair  *Pair
	roots *x509.CertPool // nil without a CA file
}

// NewLoader returns a loader that has read its files. It logs each change; a nil log
// discards that.
func NewLoader(files Files, log *slog.Logger) (*Loader, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	load := func() (loaded, error) { return load(files) }
	tell := func(l loaded, err error) {
		if err != nil {
			log.Warn("changed certificate files of the agent's API cannot be used; those before stay in force", "err", err)
			return
		}
		log.Info("certificate files of the agent's API read again", "expires", l.pair.Leaf().NotAfter)
	}
	reloaded, err := base.NewReloaded([]string{files.Cert, files.Key, files.CA}, load, tell)
	if err != nil {
		return nil, err
	}
	return &Loader{reloaded}, nil
}

func load(files Files) (loaded, error) {
	pair, err := Load(files)
	if err != nil || files.CA == "" {
		return loaded{pair: pair}, err
	}
	all, err := ReadCertificates(files.CA)
	if err != nil {
		return loaded{}, err
	}
	return loaded{pair, Pool(all)}, nil
}

// current returns what is in force.
func (l *Loader) current() (*Pair, *x509.CertPool) {
	now := l.files.Get()
	return now.pair, now.roots
}

// ServerConfig returns how a server shows the pair. With requireClient it lets
// in only callers with a certificate of the CA's, and those that hold the
// agent's own, expired or not: they have its key, and are the commands that tell
// that it has expired.
func (l *Loader) ServerConfig(requireClient bool) *tls.Config {
	c := &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			pair, _ := l.current()
			return pair.TLS(), nil
		},
	}
	if requireClient {
		// Not RequireAndVerifyClientCert, whose authorities could not be read again.
		c.ClientAuth = tls.RequireAnyClientCert
		c.VerifyConnection = l.verifyClient
	}
	return c
}

func (l *Loader) verifyClient(s tls.ConnectionState) error {
	if len(s.PeerCertificates) == 0 {
		return errors.New("the caller shows no certificate")
	}
	pair, roots := l.current()
	leaf := s.PeerCertificates[0]
	if leaf.Equal(pair.Leaf()) {
		return nil
	}
	if roots == nil {
		return errors.New("without a CA file nobody's certificate counts")
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: Pool(s.PeerCertificates[1:]),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err
}
