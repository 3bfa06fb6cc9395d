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

// A fault is something wrong with a certificate.
type fault struct{ text, fix string }

// explainCertificate says all that is wrong with the server's certificate. The
// server's own clock, asked for without trusting it, tells whether ours is wrong.
func (v *visit) explainCertificate(ctx context.Context, u *url.URL, tlsConfig *tls.Config, bad *tls.CertificateVerificationError) Result {
	unverified := tlsConfig.Clone()
	unverified.InsecureSkipVerify = true
	unverified.Certificates = nil
	_, _ = v.get(ctx, u, unverified) // only its Date is wanted
	faults := judgeCertificate(bad.UnverifiedCertificates, tlsConfig, u.Hostname(), v.serverTime())
	if len(faults) == 0 {
		return Result{Status: Fail, Details: "the server's certificate was refused: " + bad.Err.Error()}
	}
	r := Result{Status: Fail, Fix: faults[0].fix}
	for i, f := range faults {
		if i > 0 {
			r.Details += "; and "
		}
		r.Details += f.text
	}
	return r
}

// serverTime returns the server's time, or ours where it gave none.
func (v *visit) serverTime() time.Time { return time.Now().Add(-v.skew) }

// judgeCertificate looks for every fault of chain on its own, since Verify stops
// at the first.
func judgeCertificate(chain []*x509.Certificate, tlsConfig *tls.Config, host string, serverTime time.Time) []fault {
	if len(chain) == 0 {
		return nil
	}
	leaf := chain[0]
	var faults []fault
	add := func(fix, format string, args ...any) {
		faults = append(faults, fault{fmt.Sprintf(format, args...), fix})
	}

	now := time.Now()
	within := func(t time.Time) bool { return !t.Before(leaf.NotBefore) && !t.After(leaf.NotAfter) }
	const day = "2006-01-02 15:04 MST"
	switch {
	case within(now):
	case within(serverTime):
		add("timedatectl set-ntp true", "this machine's clock is wrong: it is %s the server's, by which the certificate is good", ahead(now.Sub(serverTime)))
	case now.Before(leaf.NotBefore):
		add("set the clocks of this machine and of the server (timedatectl set-ntp true)", "the certificate is good only from %s on", leaf.NotBefore.Format(day))
	default:
		add("make a new certificate on the server", "the certificate expired on %s", leaf.NotAfter.Format(day))
	}

	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	middle := leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2)
	_, err := leaf.Verify(x509.VerifyOptions{Roots: tlsConfig.RootCAs, Intermediates: intermediates, CurrentTime: middle})
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		// Its CA is not as old, or will not be.
		_, err = leaf.Verify(x509.VerifyOptions{Roots: tlsConfig.RootCAs, Intermediates: intermediates, CurrentTime: serverTime})
		if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired && len(faults) > 0 {
			err = nil // already said
		}
	}
	invalid, isInvalid := errors.AsType[x509.CertificateInvalidError](err)
	switch {
	case err == nil:
	case isInvalid:
		add("make a new certificate on the server", "the certificate is not fit for a server: %s", invalid.Error())
	case selfSigned(leaf):
		add("set tls.ca to a copy of that certificate, or give the server one of a CA", "the certificate is self-signed (%s)", name(leaf))
	case tlsConfig.RootCAs != nil:
		add("copy the server's own ca.pem over the file that tls.ca names", "the certificate is by %q, which is not the configured CA", leaf.Issuer.CommonName)
	default:
		add("set tls.ca in agent.yaml to a copy of the server's ca.pem", "the certificate is by %q, a CA that this machine does not know", leaf.Issuer.CommonName)
	}

	if err := leaf.VerifyHostname(host); err != nil {
		add("set server_url to one of these names, or start the server with a certificate for "+host, "the certificate is not for %s but for %s", host, certificateNames(leaf))
	}
	return faults
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
		return "no name at all"
	}
	if len(names) > 5 {
		names = append(names[:5], "…")
	}
	return strings.Join(names, ", ")
}
