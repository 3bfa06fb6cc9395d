package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

// Deadlines of a look at a server. A KITT server shakes hands in its accept
// loop, where a connection that stays silent would hold up everybody.
const (
	dialTimeout      = 5 * time.Second
	handshakeTimeout = 5 * time.Second
	fetchTimeout     = 12 * time.Second
)

var errSeen = errors.New("the certificates have been seen")

// Fetch returns the certificates that the server at address sends in its
// handshake, its own first. Nothing else is sent to it, and none of them is
// verified. proxy may be nil.
func Fetch(ctx context.Context, address string, proxy func(*http.Request) (*url.URL, error)) ([]*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	seen := make(chan []*x509.Certificate, 1)
	transport := &http.Transport{
		Proxy:               proxy,
		DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout: handshakeTimeout,
		DisableKeepAlives:   true,
		TLSClientConfig: &tls.Config{
			MinVersion:         tls.VersionTLS12,
			InsecureSkipVerify: true, // the question is who it says it is
			VerifyConnection: func(s tls.ConnectionState) error {
				select {
				case seen <- s.PeerCertificates:
				default:
				}
				return errSeen // before anything is sent
			},
		},
	}
	resp, err := transport.RoundTrip(req)
	select {
	case chain := <-seen:
		return chain, nil
	default:
	}
	if err == nil {
		return nil, errors.Join(errors.New("the server shook hands without a certificate"), resp.Body.Close())
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return nil, fmt.Errorf("%s does not speak https; its address may begin with http://: %w", address, err)
	}
	return nil, err
}

// A NoAuthorityError says that a server sends its own certificate, and not that
// of the authority which signed it. A KITT server is one of those.
type NoAuthorityError struct {
	Leaf *x509.Certificate
}

// Error returns a sentence that says where the authority's certificate is.
func (e *NoAuthorityError) Error() string {
	return fmt.Sprintf("the server sends its own certificate (%s), but not that of the authority that signed it (%s), so there is nothing to pin; "+
		"copy the authority's from the server, where kitt web keeps it as ~/.kitt/certs/ca.pem, and give it with --ca FILE",
		e.Leaf.Subject, e.Leaf.Issuer)
}

// AuthorityOf returns the authority at the end of a chain that a server sent:
// the last certificate that may sign others and has signed what comes before it,
// or the server's own where that one is signed by itself. The error is otherwise
// a [*NoAuthorityError].
func AuthorityOf(chain []*x509.Certificate) (*x509.Certificate, error) {
	if len(chain) == 0 {
		return nil, errors.New("the server sends no certificate")
	}
	leaf := chain[0]
	for i := len(chain) - 1; i > 0; i-- {
		if chain[i].BasicConstraintsValid && chain[i].IsCA && signedBy(chain[:i], chain[i]) {
			return chain[i], nil
		}
	}
	if bytes.Equal(leaf.RawIssuer, leaf.RawSubject) && leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature) == nil {
		return leaf, nil
	}
	return nil, &NoAuthorityError{leaf}
}

// KnownToSystem reports whether the machine itself trusts a chain for host, as
// it does one of a public authority.
func KnownToSystem(chain []*x509.Certificate, host string) bool {
	if len(chain) == 0 {
		return false
	}
	_, err := chain[0].Verify(x509.VerifyOptions{DNSName: host, Intermediates: Pool(chain[1:])})
	return err == nil
}
