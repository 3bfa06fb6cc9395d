package preflight

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// A problem is something wrong with a certificate, and how to fix it.
type problem struct{ text, fix string }

// explainCertificate lists every problem of the server's certificate. It gets the
// server's time over an unverified connection, to find out whether this machine's
// clock is wrong.
func (p *serverProbe) explainCertificate(ctx context.Context, u *url.URL, tlsConfig *tls.Config, bad *tls.CertificateVerificationError) Result {
	unverified := tlsConfig.Clone()
	unverified.InsecureSkipVerify = true
	unverified.Certificates = nil
	_, _ = p.get(ctx, u, unverified) // only for its Date
	problems := checkCertificate(bad.UnverifiedCertificates, tlsConfig, u.Hostname(), p.serverTime())
	if len(problems) == 0 {
		return Result{Status: Fail, Details: "the server's certificate was rejected: " + bad.Err.Error()}
	}
	r := Result{Status: Fail, Fix: problems[0].fix}
	for i, f := range problems {
		if i > 0 {
			r.Details += "; and "
		}
		r.Details += f.text
	}
	return r
}

// serverTime returns the server's time, or this machine's if it is not known.
func (p *serverProbe) serverTime() time.Time { return time.Now().Add(-p.skew) }

// checkCertificate returns every problem of chain. It checks time, issuer and name
// separately, because Verify stops at the first problem.
func checkCertificate(chain []*x509.Certificate, tlsConfig *tls.Config, host string, serverTime time.Time) []problem {
	if len(chain) == 0 {
		return nil
	}
	leaf := chain[0]
	var problems []problem
	add := func(fix, format string, args ...any) {
		problems = append(problems, problem{fmt.Sprintf(format, args...), fix})
	}

	now := time.Now()
	within := func(t time.Time) bool { return !t.Before(leaf.NotBefore) && !t.After(leaf.NotAfter) }
	const day = "2006-01-02 15:04 MST"
	switch {
	case within(now):
	case within(serverTime):
		add("timedatectl set-ntp true", "this machine's clock is wrong: it is %s the server's, by which the certificate is valid", ahead(now.Sub(serverTime)))
	case now.Before(leaf.NotBefore):
		add("set the clocks of this machine and of the server (timedatectl set-ntp true)", "the certificate is valid only from %s on", leaf.NotBefore.Format(day))
	default:
		add("create a new certificate on the server", "the certificate expired on %s", leaf.NotAfter.Format(day))
	}

	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	middle := leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2)
	_, err := leaf.Verify(x509.VerifyOptions{Roots: tlsConfig.RootCAs, Intermediates: intermediates, CurrentTime: middle})
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		// The CA is not valid at that time, so check at the server's time.
		_, err = leaf.Verify(x509.VerifyOptions{Roots: tlsConfig.RootCAs, Intermediates: intermediates, CurrentTime: serverTime})
		if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired && len(problems) > 0 {
			err = nil // reported above
		}
	}
	invalid, isInvalid := errors.AsType[x509.CertificateInvalidError](err)
	switch {
	case err == nil:
	case isInvalid:
		add("create a new certificate on the server", "the certificate cannot be used for a server: %s", invalid.Error())
	case selfSigned(leaf):
		add("set tls.ca to a copy of that certificate, or use a certificate that is signed by a CA", "the certificate is self-signed (%s)", name(leaf))
	case tlsConfig.RootCAs != nil:
		add("replace the file at tls.ca with the server's own ca.pem", "the certificate is signed by %q, which is not the configured CA", leaf.Issuer.CommonName)
	default:
		add("set tls.ca in agent.yaml to a copy of the server's ca.pem", "the certificate is signed by %q, a CA that this machine does not trust", leaf.Issuer.CommonName)
	}

	if err := leaf.VerifyHostname(host); err != nil {
		add("set server_url to one of these names, or start the server with a certificate for "+host, "the certificate is not for %s but for %s", host, certificateNames(leaf))
	}
	return problems
}

func selfSigned(c *x509.Certificate) bool {
	return string(c.RawIssuer) == string(c.RawSubject) && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

func name(c *x509.Certificate) string {
	if c.Subject.CommonName != "" {
		return c.Subject.CommonName
	}
	return certificateNames(c)
}

func certificateNames(c *x509.Certificate) string {
	names := append([]string(nil), c.DNSNames...)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "no name"
	}
	if len(names) > 5 {
		names = append(names[:5], "…")
	}
	return strings.Join(names, ", ")
}
