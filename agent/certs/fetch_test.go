package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// serveTLS serves a chain and counts requests.
func serveTLS(t *testing.T, conf *tls.Config) (url string, requests *atomic.Int32) {
	t.Helper()
	requests = new(atomic.Int32)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = conf
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL, requests
}

func TestFetch(t *testing.T) {
	t.Parallel()
	ca, _ := newAuthority(t, nil)
	p := ca.newPair(t, "server", time.Now())
	whole := p.TLS()
	whole.Certificate = append(whole.Certificate, ca.Cert.Raw)

	t.Run("with its authority", func(t *testing.T) {
		url, requests := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{*whole}, ClientAuth: tls.RequireAnyClientCert})
		chain, err := Fetch(t.Context(), url, nil)
		require.NoError(t, err)
		found, err := AuthorityOf(chain)
		require.NoError(t, err)
		require.True(t, found.Equal(ca.Cert))
		require.True(t, ca.Signed(chain))
		require.False(t, KnownToSystem(chain, "127.0.0.1"))
		require.Zero(t, requests.Load(), "nothing is sent to a server that nobody knows yet")
	})
	t.Run("without", func(t *testing.T) {
		url, _ := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{*p.TLS()}})
		chain, err := Fetch(t.Context(), url, nil)
		require.NoError(t, err)
		_, err = AuthorityOf(chain)
		var none *NoAuthorityError
		require.ErrorAs(t, err, &none)
		require.ErrorContains(t, err, "~/.kitt/certs/ca.pem")
		require.True(t, ca.Signed(chain), "which can be told with the authority at hand")
	})
	t.Run("silent", func(t *testing.T) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer listener.Close() // accepts, by the kernel, and says nothing
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err = Fetch(ctx, "https://"+listener.Addr().String(), nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
	t.Run("plain http", func(t *testing.T) {
		s := httptest.NewServer(http.NotFoundHandler())
		defer s.Close()
		_, err := Fetch(t.Context(), strings.Replace(s.URL, "http", "https", 1), nil)
		require.ErrorContains(t, err, "does not speak https")
	})
}

func TestAuthorityOf(t *testing.T) {
	t.Parallel()
	ca, _ := newAuthority(t, func(c *x509.Certificate) { c.MaxPathLenZero = false })
	stranger, _ := newAuthority(t, nil)
	key, err := NewKey()
	require.NoError(t, err)
	between := &Authority{key: key, Cert: sign(t, &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, ca.Cert, key.Public(), ca.key)}
	leaf := between.newPair(t, "x", time.Now()).Leaf()

	for _, tt := range []struct {
		name  string
		chain []*x509.Certificate
		want  *x509.Certificate
	}{
		{"whole", []*x509.Certificate{leaf, between.Cert, ca.Cert}, ca.Cert},
		{"without the root", []*x509.Certificate{leaf, between.Cert}, between.Cert},
		{"signed by itself", []*x509.Certificate{ca.Cert}, ca.Cert},
		{"with a stranger's at its end", []*x509.Certificate{leaf, between.Cert, stranger.Cert}, between.Cert},
		{"only a stranger's", []*x509.Certificate{leaf, stranger.Cert}, nil},
		{"alone", []*x509.Certificate{leaf}, nil},
		{"none", nil, nil},
	} {
		got, err := AuthorityOf(tt.chain)
		if tt.want == nil {
			require.Error(t, err, tt.name)
			continue
		}
		require.NoError(t, err, tt.name)
		require.True(t, got.Equal(tt.want), tt.name)
	}
}

func TestParseFingerprint(t *testing.T) {
	t.Parallel()
	ca, _ := newAuthority(t, nil)
	want := FingerprintOf(ca.Cert)
	plain := strings.ReplaceAll(want.String(), ":", "")
	for _, text := range []string{
		want.String(), plain, strings.ToLower(plain), "sha256 Fingerprint=" + want.String(), "SHA256:" + plain,
		"  " + want.String()[:48] + "\n  " + want.String()[48:] + "\n",
	} {
		got, err := ParseFingerprint(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got)
	}
	for text, problem := range map[string]string{"": "64", plain[:62]: "64", plain + "00": "64", plain[:40]: "SHA-1", "xyz": "hexadecimal", plain[:63]: "hexadecimal"} {
		_, err := ParseFingerprint(text)
		require.ErrorContains(t, err, problem, text)
	}
}

// FuzzParseFingerprint holds that what is accepted means itself.
func FuzzParseFingerprint(f *testing.F) {
	f.Add("AA:BB")
	f.Add("sha256 Fingerprint=" + strings.Repeat("AB:", 31) + "AB")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseFingerprint(text)
		if err != nil {
			return
		}
		again, err := ParseFingerprint(got.String())
		require.NoError(t, err)
		require.Equal(t, got, again)
	})
}

// FuzzPEM holds that no text crashes the parsers, and that what they accept can
// be written and read again.
func FuzzPEM(f *testing.F) {
	ca, _ := newAuthority(f, nil)
	key, err := encodeKey(ca.key)
	require.NoError(f, err)
	request, err := encodeRequest(ThisMachine("x"), ca.key)
	require.NoError(f, err)
	for _, text := range [][]byte{EncodeCertificates(ca.Cert, ca.Cert), ca.Cert.Raw, key, request, []byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n")} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if found, err := ParseCertificates(text); err == nil {
			require.NotEmpty(t, found)
			require.LessOrEqual(t, len(found), maxCerts)
			again, err := ParseCertificates(EncodeCertificates(found...))
			require.NoError(t, err)
			require.Len(t, again, len(found))
			_, _ = AuthorityOf(found)
			_ = Describe(found[0], time.Now())
			_ = (&Pair{Chain: found}).Check("x", found[:1], time.Now())
		}
		if key, err := ParseKey(text); err == nil {
			_, err := encodeKey(key)
			require.NoError(t, err)
		}
		if request, err := ParseRequest(text); err == nil {
			_, _ = ca.Sign(request, time.Now())
		}
	})
}
