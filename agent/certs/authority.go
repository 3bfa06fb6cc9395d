package certs

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// An Authority signs certificates.
type Authority struct {
	Cert *x509.Certificate
	key  crypto.Signer
}

// LoadAuthority reads an authority's certificate and key and checks that it can
// sign now.
func LoadAuthority(certFile, keyFile string, now time.Time) (*Authority, error) {
	all, err := ReadCertificates(certFile)
	if err != nil {
		return nil, err
	}
	key, err := ReadKey(keyFile)
	if err != nil {
		return nil, err
	}
	var cert *x509.Certificate
	for _, c := range all { // the file may be a bundle
		if samePublic(key.Public(), c.PublicKey) {
			cert = c
			break
		}
	}
	fault := func(problem, fix string) error { return &Error{File: certFile, Problem: problem, Fix: fix} }
	switch {
	case cert == nil:
		return nil, &Error{File: keyFile, Problem: "the key does not belong to the certificate in " + certFile,
			Fix: "give the certificate and the key of one authority"}
	case !cert.BasicConstraintsValid || !cert.IsCA || cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return nil, fault("the certificate may not sign others: it is not an authority's", "give the server's ca.pem and ca-key.pem")
	case now.After(cert.NotAfter):
		return nil, fault("the authority's certificate ended on "+day(cert.NotAfter), "make a new authority on the server")
	case now.Before(cert.NotBefore):
		return nil, fault("the authority's certificate begins only at "+cert.NotBefore.Format(time.RFC3339), "look at this machine's clock")
	}
	return &Authority{Cert: cert, key: key}, nil
}

// Issue signs a certificate for the subject and its public key. It serves
// clients and servers, for a year or as long as the authority lasts.
func (a *Authority) Issue(s Subject, public crypto.PublicKey, now time.Time) (*x509.Certificate, error) {
	from, until := now.Add(-clockSkew), now.Add(validity)
	if from.Before(a.Cert.NotBefore) {
		from = a.Cert.NotBefore
	}
	if until.After(a.Cert.NotAfter) {
		until = a.Cert.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{ // its random serial number is the library's
		Subject:               s.name(),
		DNSNames:              s.DNS,
		IPAddresses:           s.IPs,
		NotBefore:             from,
		NotAfter:              until,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, a.Cert, public, a.key)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate for %s: %w", s.Name, err)
	}
	return x509.ParseCertificate(der)
}

// NewPair makes a key and issues a certificate for it.
func (a *Authority) NewPair(s Subject, now time.Time) (*Pair, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	cert, err := a.Issue(s, key.Public(), now)
	if err != nil {
		return nil, err
	}
	return &Pair{Chain: []*x509.Certificate{cert}, Key: key}, nil
}

// Sign signs a certificate for an agent's request. Of what the request asks for
// only the name and the addresses count. A request in another name than an
// agent's is refused, so that nobody gets the server's.
func (a *Authority) Sign(request *x509.CertificateRequest, now time.Time) (*x509.Certificate, error) {
	name, ok := strings.CutPrefix(request.Subject.CommonName, "agent-")
	if !ok || name == "" {
		return nil, fmt.Errorf("the request is for %q, and an agent's common name begins with agent-", request.Subject.CommonName)
	}
	return a.Issue(Subject{Name: name, DNS: request.DNSNames, IPs: request.IPAddresses}, request.PublicKey, now)
}

// FindAuthority looks for the authority of a KITT server in directories such as
// ~/.kitt/certs, where `kitt web` keeps it as ca.pem and ca-key.pem. It returns
// nil where there is none, or none that this user can read and use.
func FindAuthority(dirs []string, now time.Time) *Authority {
	for _, dir := range dirs {
		a, err := LoadAuthority(filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca-key.pem"), now)
		if err == nil {
			return a
		}
	}
	return nil
}

// Signed reports whether the authority signed the first certificate of a chain,
// directly or through the others.
func (a *Authority) Signed(chain []*x509.Certificate) bool {
	return len(chain) > 0 && signedBy(chain, a.Cert)
}

// signedBy reports whether root is behind chain, whatever it is for and whether
// or not it is still valid.
func signedBy(chain []*x509.Certificate, root *x509.Certificate) bool {
	for _, cert := range chain {
		if cert.Equal(root) || cert.CheckSignatureFrom(root) == nil {
			return true
		}
		// The next one has to be its issuer, or the chain ends here.
		if len(chain) < 2 || cert.CheckSignatureFrom(chain[1]) != nil {
			return false
		}
		chain = chain[1:]
	}
	return false
}

// samePublic reports whether two public keys are the same.
func samePublic(a, b crypto.PublicKey) bool {
	key, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(b)
}

// Exist reports whether both files of a pair are there.
func Exist(files Files) bool { return exists(files.Cert) && exists(files.Key) }

// exists reports whether there is something under that name.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
