package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"
)

// A Loader holds what is in Files and reads it again when it changes. Files that
// can't be used, as between the two halves of a replacement, leave those before
// in force. Its methods are safe for concurrent use.
type Loader struct {
	files Files
	log   *slog.Logger

	mu      sync.Mutex
	pair    *Pair
	roots   *x509.CertPool // nil without a CA file
	seen    [3]stamp
	failing bool
}

// stamp tells one version of a file from another.
type stamp struct {
	size int64
	time time.Time
}

// NewLoader returns a loader that has read its files.
func NewLoader(files Files, log *slog.Logger) (*Loader, error) {
	l := &Loader{files: files, log: log, seen: stamps(files)}
	return l, l.load()
}

// load reads the files. l.mu must be held, or l unknown to others.
func (l *Loader) load() error {
	pair, err := Load(l.files)
	if err != nil {
		return err
	}
	var roots *x509.CertPool
	if l.files.CA != "" {
		all, err := ReadCertificates(l.files.CA)
		if err != nil {
			return err
		}
		roots = Pool(all)
	}
	l.pair, l.roots = pair, roots
	return nil
}

// current returns what is in force.
func (l *Loader) current() (*Pair, *x509.CertPool) {
	now := stamps(l.files)
	l.mu.Lock()
	defer l.mu.Unlock()
	if now == l.seen {
		return l.pair, l.roots
	}
	if err := l.load(); err != nil {
		if !l.failing {
			l.log.Warn("changed certificate files of the agent's API cannot be used; those before stay in force", "err", err)
		}
		l.failing = true
		return l.pair, l.roots
	}
	l.seen, l.failing = now, false
	l.log.Info("certificate files of the agent's API read again", "expires", l.pair.Leaf().NotAfter)
	return l.pair, l.roots
}

func stamps(files Files) (s [3]stamp) {
	for i, name := range []string{files.Cert, files.Key, files.CA} {
		if info, err := os.Stat(name); err == nil {
			s[i] = stamp{info.Size(), info.ModTime()}
		}
	}
	return s
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
