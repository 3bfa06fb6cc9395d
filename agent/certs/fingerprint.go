package certs

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// A Fingerprint is the SHA-256 of a certificate.
type Fingerprint [sha256.Size]byte

// FingerprintOf returns the certificate's fingerprint.
func FingerprintOf(cert *x509.Certificate) Fingerprint { return sha256.Sum256(cert.Raw) }

// String returns the fingerprint as the KITT server and openssl print it: bytes
// in capitals with colons between them.
func (f Fingerprint) String() string {
	var b strings.Builder
	for i, c := range f {
		if i > 0 {
			b.WriteByte(':')
		}
		fmt.Fprintf(&b, "%02X", c)
	}
	return b.String()
}

// ParseFingerprint reads a fingerprint however people copy one: with colons or
// without, in any case, broken over lines, after openssl's "sha256
// Fingerprint=" or "SHA256:".
func ParseFingerprint(text string) (Fingerprint, error) {
	var f Fingerprint
	if _, after, ok := strings.Cut(text, "="); ok {
		text = after
	}
	text = strings.TrimSpace(text)
	if len(text) > 7 && strings.EqualFold(text[:7], "sha256:") {
		text = text[7:]
	}
	digits := strings.Map(func(r rune) rune {
		if strings.ContainsRune(": -\t\r\n", r) {
			return -1
		}
		return r
	}, text)
	raw, err := hex.DecodeString(digits)
	switch {
	case err != nil:
		return f, errors.New("a fingerprint has only hexadecimal digits and colons")
	case len(raw) == 20:
		return f, errors.New("this is a SHA-1 fingerprint; the SHA-256 one, of 64 hexadecimal digits, is needed")
	case len(raw) != len(f):
		return f, fmt.Errorf("a SHA-256 fingerprint has 64 hexadecimal digits, not %d", len(digits))
	}
	copy(f[:], raw)
	return f, nil
}
