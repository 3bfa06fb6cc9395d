package certs

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Check returns all that keeps the pair from being used now. authorities are the
// certificates of Files.CA; with none the system's count, and who signed the pair
// is not looked at.
func (p *Pair) Check(file string, authorities []*x509.Certificate, now time.Time) error {
	leaf := p.Leaf()
	var faults []error
	fault := func(fix, format string, args ...any) {
		faults = append(faults, &Error{File: file, Problem: fmt.Sprintf(format, args...), Fix: fix})
	}
	at := now
	switch {
	case now.After(leaf.NotAfter):
		fault("make a new one: kitt-agent certs renew", "the certificate has expired, on %s", day(leaf.NotAfter))
		at = leaf.NotAfter
	case now.Before(leaf.NotBefore):
		fault("look at this machine's clock", "the certificate begins only at %s", leaf.NotBefore.Format(time.RFC3339))
		at = leaf.NotBefore
	}
	if !serves(leaf, x509.ExtKeyUsageClientAuth) {
		fault("have one signed for client authentication, as kitt-agent certs renew asks for", "the certificate is not for clients")
	}
	if err := p.verify(authorities, at); err != nil {
		fault("give the authority that signed it with --ca FILE, or have the certificate signed by that one: kitt-agent certs renew",
			"the certificate is not from the authority in tls.ca: %s", err)
	}
	return errors.Join(faults...)
}

// verify checks who signed the pair.
func (p *Pair) verify(authorities []*x509.Certificate, at time.Time) error {
	if len(authorities) == 0 {
		return nil
	}
	_, err := p.Leaf().Verify(x509.VerifyOptions{
		Roots:         Pool(authorities),
		Intermediates: Pool(p.Chain[1:]),
		CurrentTime:   at,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	return err
}

// Advice returns what is odd about the pair without keeping it from being used.
func (p *Pair) Advice(file string) []string {
	if serves(p.Leaf(), x509.ExtKeyUsageServerAuth) {
		return nil
	}
	return []string{file + ": the certificate is for clients only: callers of the agent's own API that look closely will refuse it; " +
		"kitt-agent certs renew makes one for both"}
}

// serves reports whether a certificate may be used that way.
func serves(cert *x509.Certificate, usage x509.ExtKeyUsage) bool {
	return len(cert.ExtKeyUsage)+len(cert.UnknownExtKeyUsage) == 0 ||
		slices.Contains(cert.ExtKeyUsage, usage) || slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageAny)
}

// Pool returns certificates as crypto/x509 has them.
func Pool(certs []*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	return pool
}

// An End is when a certificate in a file ends.
type End struct {
	What    string // for a person: the agent's certificate, or the authority
	File    string
	Expires time.Time
	Fix     string // what to do about it
}

// Ends returns when the certificates in files end. The error joins those of files that
// can't be read.
func Ends(files Files) ([]End, error) {
	var ends []End
	var faults []error
	look := func(what, file, fix string) {
		if file == "" {
			return
		}
		all, err := ReadCertificates(file)
		if err != nil {
			faults = append(faults, err)
			return
		}
		ends = append(ends, End{what, file, all[0].NotAfter, fix})
	}
	look("the agent's certificate", files.Cert, "make a new one: kitt-agent certs renew")
	look("the authority in tls.ca", files.CA, "copy the new ca.pem from the server: kitt-agent init --ca FILE")
	return ends, errors.Join(faults...)
}

// Expiry returns sentences about certificates in files that have expired or will
// within WarnBefore, and about files that can't be read.
func Expiry(files Files, now time.Time) []string {
	var said []string
	ends, err := Ends(files)
	for _, e := range ends {
		switch left := e.Expires.Sub(now); {
		case left < 0:
			said = append(said, fmt.Sprintf("%s (%s) expired on %s; %s", e.What, e.File, day(e.Expires), e.Fix))
		case left < WarnBefore:
			said = append(said, fmt.Sprintf("%s (%s) expires on %s, in %s; %s", e.What, e.File, day(e.Expires), days(left), e.Fix))
		}
	}
	if err != nil {
		said = append(said, strings.Split(err.Error(), "\n")...)
	}
	return said
}

func days(d time.Duration) string {
	switch n := int(d / (24 * time.Hour)); n {
	case 0:
		return "less than a day"
	case 1:
		return "1 day"
	default:
		return fmt.Sprintf("%d days", n)
	}
}
