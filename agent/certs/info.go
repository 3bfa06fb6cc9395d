package certs

import (
	"crypto/x509"
	"math"
	"time"
)

// Info is what people and programs want to know of a certificate.
type Info struct {
	Subject     string    `json:"subject"`
	Names       []string  `json:"names"`  // host names, then addresses
	Usages      []string  `json:"usages"` // client, server; none means any
	Issuer      string    `json:"issuer"`
	Serial      string    `json:"serial"`      // hexadecimal
	Fingerprint string    `json:"fingerprint"` // SHA-256
	Begins      time.Time `json:"begins"`
	Expires     time.Time `json:"expires"`
	DaysLeft    int       `json:"days_left"` // whole days; negative once it has expired
}

// Describe returns what there is to know of cert.
func Describe(cert *x509.Certificate, now time.Time) Info {
	i := Info{
		Subject:     cert.Subject.String(),
		Names:       append([]string{}, cert.DNSNames...),
		Usages:      []string{},
		Issuer:      cert.Issuer.String(),
		Serial:      cert.SerialNumber.Text(16),
		Fingerprint: FingerprintOf(cert).String(),
		Begins:      cert.NotBefore,
		Expires:     cert.NotAfter,
		DaysLeft:    int(math.Floor(cert.NotAfter.Sub(now).Hours() / 24)),
	}
	for _, ip := range cert.IPAddresses {
		i.Names = append(i.Names, ip.String())
	}
	for _, u := range cert.ExtKeyUsage {
		switch u {
		case x509.ExtKeyUsageClientAuth:
			i.Usages = append(i.Usages, "client")
		case x509.ExtKeyUsageServerAuth:
			i.Usages = append(i.Usages, "server")
		default:
			i.Usages = append(i.Usages, u.String())
		}
	}
	return i
}
