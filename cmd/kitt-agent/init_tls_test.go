package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/certs"
)

// newCA writes an authority as `kitt web` has it, and returns its directory.
func newCA(t *testing.T) (*certs.Authority, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "KITT CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca-key.pem")
	require.NoError(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	ca, err := certs.LoadAuthority(certFile, keyFile, time.Now())
	require.NoError(t, err)
	return ca, dir
}

// mutual serves a KITT server that takes only clients with a certificate of
// ca's. whole says whether its handshake holds the authority too.
func mutual(t *testing.T, ca *certs.Authority, whole bool) string {
	t.Helper()
	pair, err := ca.NewPair(certs.ThisMachine("server"), time.Now())
	require.NoError(t, err)
	own := pair.TLS()
	if whole {
		own.Certificate = append(own.Certificate, ca.Cert.Raw)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/v1/agents/" {
			_, _ = io.WriteString(w, `[]`)
			return
		}
		_, _ = io.WriteString(w, `{"status":"ok"}`)
	}))
	s.Config.ErrorLog = quietLog
	s.TLS = &tls.Config{Certificates: []tls.Certificate{*own}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: certs.Pool([]*x509.Certificate{ca.Cert})}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL
}

func TestInitSigns(t *testing.T) {
	t.Parallel()
	ca, dir := newCA(t)
	server := mutual(t, ca, false)
	for _, local := range []bool{false, true} {
		m := newMachine(t)
		args := []string{"init", "--server", server, "--new-token", "--name", "gpu-7", "--json"}
		if local { // the server's own authority, in its user's home
			m.vars["HOME"] = t.TempDir()
			require.NoError(t, os.MkdirAll(filepath.Join(m.vars["HOME"], ".kitt"), 0o700))
			require.NoError(t, os.Symlink(dir, filepath.Join(m.vars["HOME"], ".kitt", "certs")))
		} else {
			args = append(args, "--ca-cert", filepath.Join(dir, "ca.pem"), "--ca-key", filepath.Join(dir, "ca-key.pem"))
		}
		got := m.run(args...)
		require.Equal(t, exitOK, got.code, got.err)
		var report initReport
		require.NoError(t, json.Unmarshal([]byte(got.out), &report))
		require.True(t, report.Reachable, report.ServerError)
		require.Empty(t, report.Warnings)
		require.Equal(t, "signed", report.TLS.State)
		require.Equal(t, "CN=agent-gpu-7,O=KITT", report.TLS.Certificate.Subject)
		home := filepath.Join(m.home, "certs")
		require.Contains(t, m.read(), "tls:\n  cert: "+home+"/agent.pem\n  key: "+home+"/agent-key.pem\n  ca: "+home+"/ca.pem\n")

		// A second one keeps the key, even after agent.yaml is lost.
		key, err := os.ReadFile(filepath.Join(home, "agent-key.pem"))
		require.NoError(t, err)
		require.NoError(t, os.Remove(filepath.Join(m.home, "agent.yaml")))
		got = m.run(args...)
		require.Equal(t, exitOK, got.code, got.err)
		require.Contains(t, got.out, `"state": "existing"`)
		again, err := os.ReadFile(filepath.Join(home, "agent-key.pem"))
		require.NoError(t, err)
		require.Equal(t, key, again)
		require.Equal(t, exitOK, m.run(append(args, "--force")...).code)
		again, err = os.ReadFile(filepath.Join(home, "agent-key.pem"))
		require.NoError(t, err)
		require.NotEqual(t, key, again)

		require.Contains(t, m.run("certs", "show").out, "agent-gpu-7")
	}
}

func TestInitTakesExistingFiles(t *testing.T) {
	t.Parallel()
	ca, dir := newCA(t)
	stranger, strange := newCA(t)
	server := mutual(t, ca, false)
	write := func(a *certs.Authority, now time.Time) []string {
		pair, err := a.NewPair(certs.ThisMachine("gpu-7"), now)
		require.NoError(t, err)
		at := t.TempDir()
		files := certs.Files{Cert: filepath.Join(at, "a.pem"), Key: filepath.Join(at, "a-key.pem")}
		require.NoError(t, certs.Replace(files, pair))
		return []string{"--cert", files.Cert, "--key", files.Key}
	}
	good := write(ca, time.Now())
	init := []string{"init", "--server", server, "--new-token", "--ca", filepath.Join(dir, "ca.pem")}
	m := newMachine(t)
	got := m.run(append(init, good...)...)
	require.Equal(t, exitOK, got.code, got.err)
	require.Contains(t, got.out, "which answers")
	require.Contains(t, got.out, "certificate existing")

	for _, tt := range []struct {
		args []string
		want string
	}{
		{write(stranger, time.Now()), "not from the authority in tls.ca"},
		{write(ca, time.Now().AddDate(-2, 0, 0)), "has expired"},
		{[]string{good[0], good[1], good[2], write(ca, time.Now())[3]}, "does not belong to the certificate"},
		{append([]string{"--ca", filepath.Join(strange, "ca.pem")}, good...), "not from the authority in tls.ca"},
		{append([]string{"--ca-key", "x"}, good...), "--ca-cert and --ca-key make one"},
	} {
		m := newMachine(t)
		got := m.run(append(init, tt.args...)...)
		require.NotEqual(t, exitOK, got.code)
		require.Contains(t, got.err, tt.want)
		require.NoFileExists(t, filepath.Join(m.home, "agent.yaml"))
	}
}

// A request is signed elsewhere, taken up, and renewed the same way.
func TestInitRequests(t *testing.T) {
	t.Parallel()
	ca, dir := newCA(t)
	server := mutual(t, ca, true)
	m := newMachine(t)
	fingerprint := certs.FingerprintOf(ca.Cert).String()

	got := m.run("init", "--server", server, "--new-token", "--name", "gpu-7", "--ca-fingerprint", strings.Repeat("00", 32))
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "somebody else answers in its place")
	entries, err := os.ReadDir(m.home)
	require.NoError(t, err)
	require.Empty(t, entries, "nothing was written")

	got = m.run("init", "--server", server, "--new-token", "--name", "gpu-7")
	require.Equal(t, exitOK, got.code, got.err)
	require.Contains(t, got.err, fingerprint)
	require.Contains(t, got.out, "kitt-agent init --ca-fingerprint "+fingerprint)
	require.NotContains(t, m.read(), "tls:")

	got = m.run("init", "--ca-fingerprint", fingerprint)
	require.Equal(t, exitOK, got.code, got.err)
	require.Contains(t, got.out, "kitt-agent certs import agent.pem")
	require.Contains(t, m.read(), "tls:\n  ca: "+filepath.Join(m.home, "certs", "ca.pem")+"\n")

	request := filepath.Join(m.home, "certs", "agent-request.pem")
	signed := filepath.Join(t.TempDir(), "agent.pem")
	sign := func(authority string) {
		got := m.run("certs", "sign", request, "--ca-cert", filepath.Join(authority, "ca.pem"), "--ca-key", filepath.Join(authority, "ca-key.pem"))
		require.Equal(t, exitOK, got.code, got.err)
		require.Contains(t, got.err, "agent-gpu-7")
		require.NoError(t, os.WriteFile(signed, []byte(got.out), 0o600))
	}
	_, other := newCA(t)
	sign(other)
	require.Contains(t, m.run("certs", "import", signed).err, "not from the authority in tls.ca")
	sign(dir)
	got = m.run("certs", "import", signed)
	require.Equal(t, exitOK, got.code, got.err)
	require.Contains(t, got.out, "needs a restart")
	require.NoFileExists(t, request)
	require.Contains(t, m.run("init", "--name", "gpu-7").out, "which answers", "over mutual TLS")

	// An old certificate fits no key any more once a new one is in use.
	require.Equal(t, exitOK, m.run("certs", "renew").code)
	require.Equal(t, exitOK, m.run("certs", "show").code, "what is in use stays")
	sign(dir)
	got = m.run("certs", "import", signed)
	require.Equal(t, exitOK, got.code, got.err)
	require.Contains(t, got.out, "from its next connection on")
	got = m.run("certs", "renew", "--ca-cert", filepath.Join(dir, "ca.pem"), "--ca-key", filepath.Join(dir, "ca-key.pem"))
	require.Equal(t, exitOK, got.code, got.err)
	require.Contains(t, m.run("certs", "import", signed).err, "no key that it belongs to")
}

// A KITT server sends its own certificate only.
func TestInitWithoutAuthorityInHandshake(t *testing.T) {
	t.Parallel()
	ca, _ := newCA(t)
	server := mutual(t, ca, false)
	m := newMachine(t)
	got := m.run("init", "--server", server, "--new-token")
	require.Equal(t, exitOK, got.code, got.err)
	require.Contains(t, got.err, "so there is nothing to pin; copy the authority's from the server")
	got = newMachine(t).run("init", "--server", server, "--new-token", "--ca-fingerprint", certs.FingerprintOf(ca.Cert).String())
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "nothing to pin")
}
