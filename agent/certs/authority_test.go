package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestIssue(t *testing.T) {
	t.Parallel()
	made, dir := newAuthority(t, nil)
	ca, err := LoadAuthority(filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca-key.pem"), time.Now())
	require.NoError(t, err)
	require.True(t, ca.Cert.Equal(made.Cert))

	now := time.Now()
	p := ca.newPair(t, "gpu-7", now)
	cert := p.Leaf()
	require.Equal(t, "CN=agent-gpu-7,O=KITT", cert.Subject.String())
	host, err := os.Hostname()
	require.NoError(t, err)
	require.Subset(t, cert.DNSNames, []string{"gpu-7", "localhost", host})
	for _, name := range []string{"127.0.0.1", "::1", "localhost", "gpu-7"} {
		require.NoError(t, cert.VerifyHostname(name))
	}
	require.ElementsMatch(t, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}, cert.ExtKeyUsage)
	require.WithinDuration(t, now.Add(-time.Hour), cert.NotBefore, time.Second)
	require.WithinDuration(t, now.AddDate(0, 0, 365), cert.NotAfter, time.Second)
	require.Equal(t, elliptic.P256(), p.Key.(*ecdsa.PrivateKey).Curve)
	require.False(t, cert.IsCA)
	require.Greater(t, cert.SerialNumber.BitLen(), 64)
	require.NotEqual(t, cert.SerialNumber, ca.newPair(t, "gpu-7", now).Leaf().SerialNumber)
	require.NoError(t, p.Check("agent.pem", []*x509.Certificate{ca.Cert}, now))
	require.Empty(t, p.Advice("agent.pem"))
}

// Names that no DNS name can carry, and long ones, still get a certificate.
func TestIssueForOddNames(t *testing.T) {
	t.Parallel()
	ca, _ := newAuthority(t, nil)
	for _, name := range []string{"gpu 7", "gpu é", "-x-", "a..b", strings.Repeat("漢", 80)} {
		cert := ca.newPair(t, name, time.Now()).Leaf()
		require.NotContains(t, cert.DNSNames, name)
		require.Contains(t, cert.DNSNames, "localhost")
		require.True(t, strings.HasPrefix("agent-"+name, cert.Subject.CommonName), cert.Subject.CommonName)
	}
}

func TestNeverBeyondTheAuthority(t *testing.T) {
	t.Parallel()
	ca, _ := newAuthority(t, func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(48*time.Hour)
	})
	cert := ca.newPair(t, "x", time.Now()).Leaf()
	require.Equal(t, ca.Cert.NotAfter, cert.NotAfter)
	require.Equal(t, ca.Cert.NotBefore, cert.NotBefore)
}

// The forms in which authorities keep their keys: KITT's is PKCS 1.
func TestKeyForms(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	ecKey, err := NewKey()
	require.NoError(t, err)
	ecDER, err := x509.MarshalECPrivateKey(ecKey)
	require.NoError(t, err)
	text := append([]byte("words\n"), pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsaKey)})...)
	key, err := ParseKey(text)
	require.NoError(t, err)
	require.True(t, rsaKey.Equal(key))
	key, err = ParseKey(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: ecDER}))
	require.NoError(t, err)
	require.True(t, ecKey.Equal(key))

	for text, want := range map[string]string{
		"": "no private key",
		string(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte{1}})):                                          "passphrase",
		string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"DEK-Info": "x,1"}, Bytes: []byte{1}})): "passphrase",
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}})):                                                    "cannot be read",
	} {
		_, err := ParseKey([]byte(text))
		require.ErrorContains(t, err, want)
	}
}

func TestLoadAuthorityRefuses(t *testing.T) {
	t.Parallel()
	load := func(dir string, now time.Time) error {
		_, err := LoadAuthority(filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca-key.pem"), now)
		return err
	}
	_, good := newAuthority(t, nil)
	_, leaf := newAuthority(t, func(c *x509.Certificate) {
		c.IsCA, c.KeyUsage, c.MaxPathLenZero = false, x509.KeyUsageDigitalSignature, false
	})
	require.ErrorContains(t, load(leaf, time.Now()), "may not sign others")
	require.ErrorContains(t, load(good, time.Now().AddDate(11, 0, 0)), "ended on")
	require.ErrorContains(t, load(good, time.Now().AddDate(-1, 0, 0)), "clock")
	require.ErrorIs(t, load(t.TempDir(), time.Now()), os.ErrNotExist)

	_, other := newAuthority(t, nil)
	_, err := LoadAuthority(filepath.Join(good, "ca.pem"), filepath.Join(other, "ca-key.pem"), time.Now())
	require.ErrorContains(t, err, "does not belong to the certificate")

	require.NotNil(t, FindAuthority([]string{t.TempDir(), good}, time.Now()))
	require.Nil(t, FindAuthority([]string{t.TempDir(), leaf}, time.Now()))
}

func TestRequest(t *testing.T) {
	t.Parallel()
	ca, _ := newAuthority(t, nil)
	r := RequestFor(filepath.Join(t.TempDir(), "certs", "agent.pem"))
	require.False(t, r.Pending())
	require.NoError(t, r.Write(ThisMachine("gpu-7"), false))
	require.True(t, r.Pending())
	key, err := os.ReadFile(r.Key)
	require.NoError(t, err)
	for path, mode := range map[string]os.FileMode{r.Key: 0o600, filepath.Dir(r.Key): 0o700 | os.ModeDir} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, mode, info.Mode())
	}
	read := func() *x509.CertificateRequest {
		text, err := ReadFile(r.File)
		require.NoError(t, err)
		request, err := ParseRequest(text)
		require.NoError(t, err)
		return request
	}
	first := read()
	require.Equal(t, "CN=agent-gpu-7,O=KITT", first.Subject.String())
	require.True(t, first.IPAddresses[0].Equal(net.IPv4(127, 0, 0, 1)))

	// The key whose certificate may be under way stays, even for another name.
	require.NoError(t, r.Write(ThisMachine("gpu-8"), false))
	again, err := os.ReadFile(r.Key)
	require.NoError(t, err)
	require.Equal(t, key, again)
	cert, err := ca.Sign(read(), time.Now())
	require.NoError(t, err)
	require.Equal(t, "agent-gpu-8", cert.Subject.CommonName)
	require.Len(t, cert.ExtKeyUsage, 2)
	require.True(t, samePublic(cert.PublicKey, first.PublicKey))

	require.NoError(t, r.Write(ThisMachine("gpu-8"), true))
	require.False(t, samePublic(read().PublicKey, first.PublicKey))

	require.NoError(t, os.WriteFile(r.Key, []byte("broken"), 0o600))
	require.ErrorContains(t, r.Write(ThisMachine("x"), false), "no private key")
}

func TestSignRefusesOtherNames(t *testing.T) {
	t.Parallel()
	ca, _ := newAuthority(t, nil)
	key, err := NewKey()
	require.NoError(t, err)
	for _, name := range []string{"server", "agent-", ""} {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
		require.NoError(t, err)
		request, err := x509.ParseCertificateRequest(der)
		require.NoError(t, err)
		_, err = ca.Sign(request, time.Now())
		require.ErrorContains(t, err, "begins with agent-")
	}
	// What is asked for beyond names is not given.
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "agent-x"},
		ExtraExtensions: []pkix.Extension{{Id: []int{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 3, 1, 1, 0xff}}}}, key)
	require.NoError(t, err)
	request, err := x509.ParseCertificateRequest(der)
	require.NoError(t, err)
	cert, err := ca.Sign(request, time.Now())
	require.NoError(t, err)
	require.False(t, cert.IsCA)

	der[len(der)-1] ^= 1
	_, err = ParseRequest(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	require.ErrorContains(t, err, "not signed by its own key")
}

func TestCheck(t *testing.T) {
	t.Parallel()
	ca, _ := newAuthority(t, nil)
	stranger, _ := newAuthority(t, nil)
	roots := []*x509.Certificate{ca.Cert}
	now := time.Now()
	p := ca.newPair(t, "x", now)
	require.ErrorContains(t, p.Check("a.pem", roots, now.AddDate(2, 0, 0)), "a.pem: the certificate has expired, on ")
	require.ErrorContains(t, p.Check("a.pem", roots, now.AddDate(2, 0, 0)), "kitt-agent certs renew")
	require.ErrorContains(t, p.Check("a.pem", roots, now.AddDate(0, 0, -1)), "clock")
	require.ErrorContains(t, p.Check("a.pem", []*x509.Certificate{stranger.Cert}, now), "not from the authority in tls.ca")
	require.NoError(t, p.Check("a.pem", nil, now))

	key, err := NewKey()
	require.NoError(t, err)
	only := func(use x509.ExtKeyUsage) *Pair {
		return &Pair{Key: key, Chain: []*x509.Certificate{sign(t, &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour),
			NotAfter: now.Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{use}}, ca.Cert, key.Public(), ca.key)}}
	}
	require.ErrorContains(t, only(x509.ExtKeyUsageServerAuth).Check("a.pem", roots, now), "not for clients")
	require.NoError(t, only(x509.ExtKeyUsageClientAuth).Check("a.pem", roots, now), "as the KITT server's tools make them")
	require.Len(t, only(x509.ExtKeyUsageClientAuth).Advice("a.pem"), 1)
}

func TestDescribeAndExpiry(t *testing.T) {
	t.Parallel()
	ca, _ := newAuthority(t, nil)
	now := time.Now()
	p := ca.newPair(t, "x", now)
	files := ca.write(t, p)
	i := Describe(p.Leaf(), now)
	require.Equal(t, 364, i.DaysLeft)
	require.Equal(t, []string{"client", "server"}, i.Usages)
	require.Contains(t, i.Names, "127.0.0.1")
	require.Equal(t, "CN=KITT CA,O=KITT", i.Issuer)
	require.Equal(t, -1, Describe(p.Leaf(), p.Leaf().NotAfter.Add(time.Minute)).DaysLeft)

	end := p.Leaf().NotAfter
	require.Empty(t, Expiry(files, end.Add(-WarnBefore-time.Minute)))
	require.Empty(t, Expiry(Files{}, now))
	for at, want := range map[time.Time]string{
		end.Add(-WarnBefore + time.Minute): "in 29 days; make a new one: kitt-agent certs renew",
		end.Add(-25 * time.Hour):           "in 1 day;",
		end.Add(-time.Hour):                "in less than a day;",
		end.Add(time.Hour):                 "expired on " + day(end),
	} {
		require.Len(t, Expiry(files, at), 1)
		require.Contains(t, Expiry(files, at)[0], want)
	}
	require.Contains(t, strings.Join(Expiry(files, ca.Cert.NotAfter.Add(time.Hour)), "\n"), "the authority in tls.ca")
	require.NoError(t, os.Remove(files.CA))
	require.Contains(t, Expiry(files, now)[0], "no such file")
}
