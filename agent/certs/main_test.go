package certs

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// replaceEnv makes this test binary a process that replaces the pair in the
// directory it names, until it is killed.
const replaceEnv = "KITT_TEST_REPLACE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(replaceEnv); dir != "" {
		fmt.Println(replaceForEver(dir))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// newAuthority makes an authority, and files of it as `kitt web` has them.
func newAuthority(t testing.TB, change func(*x509.Certificate)) (*Authority, string) {
	t.Helper()
	key, err := NewKey()
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "KITT CA", Organization: []string{"KITT"}},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if change != nil {
		change(template)
	}
	a := &Authority{Cert: sign(t, template, template, key.Public(), key), key: key}
	dir := t.TempDir()
	text, err := encodeKey(key)
	require.NoError(t, err)
	require.NoError(t, WriteFile(filepath.Join(dir, "ca-key.pem"), text))
	require.NoError(t, WriteFile(filepath.Join(dir, "ca.pem"), EncodeCertificates(a.Cert)))
	return a, dir
}

func sign(t testing.TB, template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return cert
}

// newPair issues a pair at a time of the test's choice.
func (a *Authority) newPair(t testing.TB, name string, now time.Time) *Pair {
	t.Helper()
	p, err := a.NewPair(ThisMachine(name), now)
	require.NoError(t, err)
	return p
}

// write writes the pair and the authority and returns their names.
func (a *Authority) write(t testing.TB, p *Pair) Files {
	t.Helper()
	dir := t.TempDir()
	files := Files{Cert: filepath.Join(dir, "agent.pem"), Key: filepath.Join(dir, "agent-key.pem"), CA: filepath.Join(dir, "ca.pem")}
	require.NoError(t, Replace(files, p))
	require.NoError(t, WriteFile(files.CA, EncodeCertificates(a.Cert)))
	return files
}
