package selfupdate

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"strings"
)

// ParsePublicKey reads an Ed25519 public key as `openssl pkey -pubout` writes it,
// with or without the lines that begin and end with dashes, or the key's 32
// bytes alone in base64.
func ParsePublicKey(text string) (ed25519.PublicKey, error) {
	text = strings.TrimSpace(text)
	var der []byte
	if block, _ := pem.Decode([]byte(text)); block != nil {
		der = block.Bytes
	} else {
		var err error
		if der, err = base64.StdEncoding.DecodeString(text); err != nil {
			return nil, errors.New("it is not base64")
		}
	}
	if len(der) == ed25519.PublicKeySize {
		return ed25519.PublicKey(der), nil
	}
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, errors.New("it is no public key")
	}
	public, ok := key.(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("it is a public key, but not an Ed25519 one")
	}
	return public, nil
}

// ErrSignature is matched by the error of a package that is not signed with the
// key that was asked for.
var ErrSignature = errors.New("not signed with the key update.public_key of agent.yaml")

// checkSignature checks the content of SHA256SUMS.sig.
func checkSignature(key ed25519.PublicKey, sums, signature []byte) error {
	if len(key) != ed25519.PublicKeySize {
		return errors.New("the public key has a wrong length")
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(signature)))
	if err != nil || !ed25519.Verify(key, sums, raw) {
		return ErrSignature
	}
	return nil
}
