package kittapi_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/kittapi"
	"github.com/kirizan/kitt-agent/agent/kittapitest"
)

// write writes a file with a new modification time, so that even a fast change is
// detected.
var age atomic.Int64

func write(t *testing.T, name string, text []byte) {
	require.NoError(t, os.WriteFile(name, text, 0o600))
	at := time.Unix(1_700_000_000+age.Add(1), 0)
	require.NoError(t, os.Chtimes(name, at, at))
}

// newCertificate returns a self-signed certificate and its key in PEM form.
func newCertificate(t *testing.T, name string) (cert, key []byte) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{name},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	require.NoError(t, err)
	text, err := x509.MarshalPKCS8PrivateKey(k)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text})
}

func TestOverTLS(t *testing.T) {
	t.Parallel()
	conf, authority, err := kittapitest.NewTLS()
	require.NoError(t, err)
	s := newServer(t, kittapitest.Config{TLS: conf})
	ca := filepath.Join(t.TempDir(), "ca.pem")
	write(t, ca, authority)

	require.NoError(t, newClient(t, kittapi.Config{URL: s.URL, CAFile: ca}).Health(t.Context()))
	require.NoError(t, newClient(t, kittapi.Config{URL: s.URL, Insecure: true}).Health(t.Context()))

	err = newClient(t, kittapi.Config{URL: s.URL}).Health(t.Context())
	require.ErrorContains(t, err, "set tls.ca in agent.yaml")
	err = newClient(t, kittapi.Config{URL: s.URL, CAFile: ca, TLS: &tls.Config{ServerName: "kitt.example"}}).Health(t.Context())
	require.ErrorContains(t, err, "is only for localhost")
	err = newClient(t, kittapi.Config{URL: strings.Replace(s.URL, "https", "http", 1)}).Health(t.Context())
	require.Error(t, err)

	plain := newServer(t, kittapitest.Config{})
	err = newClient(t, kittapi.Config{URL: strings.Replace(plain.URL, "http", "https", 1)}).Health(t.Context())
	require.ErrorContains(t, err, "must begin with http://")
}

func TestSessionsAreResumed(t *testing.T) {
	t.Parallel()
	var resumed, conns atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conns.Add(1)
		if r.TLS.DidResume {
			resumed.Add(1)
		}
		w.Header().Set("Connection", "close")
		_, _ = io.WriteString(w, `{"status":"ok"}`)
	}))
	s.StartTLS()
	t.Cleanup(s.Close)
	c := newClient(t, kittapi.Config{URL: s.URL, Insecure: true})
	for range 5 {
		require.NoError(t, c.Health(t.Context()))
	}
	require.EqualValues(t, 5, conns.Load())
	require.EqualValues(t, 4, resumed.Load())
}

// TestCertificatesAreReadAgain changes a client's certificate and authority
// while it is in use, also through a state in which they can't be used.
func TestCertificatesAreReadAgain(t *testing.T) {
	t.Parallel()
	var seen atomic.Value
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Store(r.TLS.PeerCertificates[0].Subject.CommonName)
		_, _ = io.WriteString(w, `{"status":"ok"}`)
	}))
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)

	dir := t.TempDir()
	caFile, certFile, keyFile := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "a.pem"), filepath.Join(dir, "a-key.pem")
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	first, firstKey := newCertificate(t, "agent-first")
	second, secondKey := newCertificate(t, "agent-second")
	write(t, caFile, authority)
	write(t, certFile, first)
	write(t, keyFile, firstKey)
	var logged strings.Builder
	c := newClient(t, kittapi.Config{URL: s.URL, CAFile: caFile, CertFile: certFile, KeyFile: keyFile, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	require.NoError(t, c.Health(t.Context()))
	require.Equal(t, "agent-first", seen.Load())

	write(t, certFile, second) // and not yet its key
	for range 3 {
		require.NoError(t, c.Health(t.Context()))
	}
	require.Equal(t, "agent-first", seen.Load())
	require.Equal(t, 1, strings.Count(logged.String(), "files not loaded"), "logged once: %s", logged.String())

	write(t, keyFile, secondKey)
	require.NoError(t, c.Health(t.Context()))
	require.Equal(t, "agent-second", seen.Load())

	write(t, caFile, first) // an authority that the server's certificate is not from
	require.Error(t, c.Health(t.Context()))
	write(t, caFile, authority)
	require.NoError(t, c.Health(t.Context()))
}

func TestFilesThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.pem")
	write(t, bad, []byte("no PEM"))
	_, err := kittapi.New(kittapi.Config{URL: "https://h", CAFile: bad, CertFile: bad, KeyFile: bad})
	require.ErrorContains(t, err, "CAFile: "+bad)
	require.ErrorContains(t, err, "CertFile and KeyFile")
}

// TestEveryCallShowsTheCertificate makes each kind of call to a server that requires
// the client certificate.
func TestEveryCallShowsTheCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile, caFile := filepath.Join(dir, "a.pem"), filepath.Join(dir, "a-key.pem"), filepath.Join(dir, "ca.pem")
	cert, key := newCertificate(t, "agent-x")
	write(t, certFile, cert)
	write(t, keyFile, key)
	conf, authority, err := kittapitest.NewTLS()
	require.NoError(t, err)
	write(t, caFile, authority)
	conf.ClientAuth = tls.RequireAndVerifyClientCert
	conf.ClientCAs = x509.NewCertPool()
	require.True(t, conf.ClientCAs.AppendCertsFromPEM(cert))
	s := newServer(t, kittapitest.Config{AuthToken: "operator", TLS: conf})

	lifeOfAJob(t, kittapi.Config{URL: s.URL, Token: "own", ServerToken: "operator", CAFile: caFile, CertFile: certFile, KeyFile: keyFile})
	lifeOfAJob(t, kittapi.Config{URL: s.URL, Token: "own", ServerToken: "operator", Insecure: true, CertFile: certFile, KeyFile: keyFile})

	err = newClient(t, kittapi.Config{URL: s.URL, CAFile: caFile}).Health(t.Context())
	require.ErrorContains(t, err, "requires the agent's certificate")
	cert, key = newCertificate(t, "agent-stranger")
	write(t, certFile, cert)
	write(t, keyFile, key)
	err = newClient(t, kittapi.Config{URL: s.URL, CAFile: caFile, CertFile: certFile, KeyFile: keyFile}).Health(t.Context())
	require.ErrorContains(t, err, "kitt-agent certs show")
}
