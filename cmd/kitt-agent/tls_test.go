package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/certs"
	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
)

// TestOverMutualTLS runs an agent whose server and whose own API take only
// callers with a certificate: a job goes through, certificates are renewed under
// it, and the commands reach it, also after its certificate has expired.
func TestOverMutualTLS(t *testing.T) {
	prog := buildProgram(t)
	ca, dir := newCA(t)
	pair, err := ca.NewPair(certs.ThisMachine("server"), time.Now())
	require.NoError(t, err)
	var serial atomic.Value
	server, err := kittapitest.NewServer(kittapitest.Config{TLS: &tls.Config{
		Certificates: []tls.Certificate{*pair.TLS()},
		ClientAuth:   tls.RequireAnyClientCert,
		ClientCAs:    certs.Pool([]*x509.Certificate{ca.Cert}),
		VerifyConnection: func(s tls.ConnectionState) error {
			serial.Store(s.PeerCertificates[0].SerialNumber.String())
			_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: certs.Pool([]*x509.Certificate{ca.Cert}), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
			return err
		},
	}})
	require.NoError(t, err)
	defer server.Close()

	d := newDaemon(t, prog, server.URL, "process", "require_client_cert: true")
	m := &machine{t: t, home: d.home, vars: map[string]string{"KITT_HOME": d.home}, in: strings.NewReader("")}
	// init can't read a file that asks for certificates before there are any.
	m.write(strings.Replace(m.read(), "require_client_cert: true\n", "", 1))
	flags := []string{"--ca-cert", filepath.Join(dir, "ca.pem"), "--ca-key", filepath.Join(dir, "ca-key.pem")}
	got := m.run(append([]string{"init"}, flags...)...)
	require.Equal(t, exitOK, got.code, got.err)
	require.Contains(t, got.out, "which answers")
	m.write(m.read() + "require_client_cert: true\n")
	d.start()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	require.NoError(t, server.WaitForAgent(ctx, "chaos"), tail(d))

	id, _, err := server.Launch("chaos", "fake:lines.100_delay.20ms")
	require.NoError(t, err)
	require.NoError(t, waitForLines(ctx, server, id, 10), tail(d))
	before := serial.Load()
	got = m.run(append([]string{"certs", "renew"}, flags...)...)
	require.Equal(t, exitOK, got.code, got.err)
	require.NoError(t, server.WaitForEnd(ctx, id), tail(d))
	require.NotEqual(t, before, serial.Load(), "the new certificate is shown without a restart")
	row, _ := server.Test(id)
	require.Equal(t, "completed", row.Status, row.Error)
	require.Len(t, numbersOf(server.Lines(id)), 100)

	got = m.run("status")
	require.Equal(t, exitOK, got.code, got.err)
	require.Contains(t, got.out, "CN=agent-chaos,O=KITT, until")
	require.Equal(t, exitOK, m.run("logs", id).code)
	stranger := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: certs.Pool([]*x509.Certificate{ca.Cert})}}}
	_, err = stranger.Get(fmt.Sprintf("https://127.0.0.1:%d/healthz", d.port))
	require.Error(t, err)

	expired, err := ca.NewPair(certs.ThisMachine("chaos"), time.Now().AddDate(-1, 0, -1))
	require.NoError(t, err)
	require.NoError(t, certs.Replace(certs.Files{Cert: filepath.Join(d.home, "certs", "agent.pem"), Key: filepath.Join(d.home, "certs", "agent-key.pem")}, expired))
	got = m.run("status", "--json")
	require.Equal(t, exitDegraded, got.code, got.err)
	var report statusReport
	require.NoError(t, json.Unmarshal([]byte(got.out), &report))
	require.Negative(t, report.Certificate.DaysLeft)
	require.Contains(t, report.Degraded, "a certificate has expired: the agent's certificate")
	require.Contains(t, string(report.Status), "the agent's certificate ("+filepath.Join(d.home, "certs", "agent.pem")+") expired on")
	require.Equal(t, exitFailure, m.run("certs", "show").code)
	got = m.run("stop", "--cancel")
	require.Equal(t, exitOK, got.code, got.err)
}

// --insecure takes any server, says so, and leaves the agent's own certificate
// and API as they are.
func TestInsecureIsLoud(t *testing.T) {
	prog := buildProgram(t)
	conf, _, err := kittapitest.NewTLS()
	require.NoError(t, err)
	server, err := kittapitest.NewServer(kittapitest.Config{TLS: conf})
	require.NoError(t, err)
	defer server.Close()
	d := newDaemon(t, prog, server.URL, "simulated")
	d.start("--insecure")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, server.WaitForAgent(ctx, "chaos"), tail(d))
	require.Contains(t, d.out.String(), "the server's certificate is not verified")
	m := &machine{t: t, home: d.home, vars: map[string]string{"KITT_HOME": d.home}, in: strings.NewReader("")}
	require.Contains(t, m.run("status").out, insecureWarning)
	require.Contains(t, m.run("test", "list").err, "set tls.ca in agent.yaml")
	got := m.run("test", "list", "--insecure")
	require.Equal(t, exitOK, got.code, got.err)
	require.Contains(t, got.err, insecureWarning)
	d.stop()
}

// What a crash left between the two halves of a replacement is completed by
// whoever looks at the pair next.
func TestShowSettlesAPair(t *testing.T) {
	t.Parallel()
	ca, _ := newCA(t)
	dir := t.TempDir()
	files := certs.Files{Cert: filepath.Join(dir, "agent.pem"), Key: filepath.Join(dir, "agent-key.pem")}
	first, err := ca.NewPair(certs.ThisMachine("a"), time.Now())
	require.NoError(t, err)
	require.NoError(t, certs.Replace(files, first))
	old, err := os.ReadFile(files.Cert)
	require.NoError(t, err)
	second, err := ca.NewPair(certs.ThisMachine("b"), time.Now())
	require.NoError(t, err)
	require.NoError(t, certs.Replace(files, second))
	require.NoError(t, os.Rename(files.Cert, files.Cert+".next"))
	require.NoError(t, os.WriteFile(files.Cert, old, 0o600))
	report := showCerts(&config.Config{Home: dir, TLS: config.TLS{Cert: files.Cert, Key: files.Key}}, time.Now())
	require.Empty(t, report.Problems)
	require.Contains(t, report.Certificate.Subject, "agent-b")
}
