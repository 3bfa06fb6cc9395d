package certs

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Types of PEM blocks.
const (
	blockCert    = "CERTIFICATE"
	blockKey     = "PRIVATE KEY"
	blockRequest = "CERTIFICATE REQUEST"
)

// ParseCertificates returns the certificates in a PEM text, or the one of a DER
// file. Whatever else the text holds is skipped.
func ParseCertificates(text []byte) ([]*x509.Certificate, error) {
	var found []*x509.Certificate
	for rest := text; ; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		if block.Type != blockCert {
			continue
		}
		if len(found) == maxCerts {
			return nil, fmt.Errorf("it holds more than %d certificates", maxCerts)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d cannot be read: %w", len(found)+1, err)
		}
		found = append(found, cert)
	}
	if len(found) > 0 {
		return found, nil
	}
	if cert, err := x509.ParseCertificate(text); err == nil {
		return []*x509.Certificate{cert}, nil
	}
	return nil, errors.New("it holds no certificate in PEM form")
}

// ParseKey returns the first private key in a PEM text, in any of its usual
// forms.
func ParseKey(text []byte) (crypto.Signer, error) {
	for rest := text; ; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			return nil, errors.New("it holds no private key in PEM form")
		}
		var key any
		var err error
		switch {
		case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
			return nil, errors.New("the key is protected by a passphrase; write it without one: openssl pkey -in FILE -out NEW")
		case block.Type == blockKey:
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case block.Type == "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case block.Type == "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		default:
			continue
		}
		if err != nil {
			// The library's words are about the form, never about the content.
			return nil, fmt.Errorf("the key cannot be read: %w", err)
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, fmt.Errorf("a key of the kind %T signs nothing", key)
		}
		return signer, nil
	}
}

// ParseRequest returns the signing request in a PEM text, whose signature it
// checks.
func ParseRequest(text []byte) (*x509.CertificateRequest, error) {
	for rest := text; ; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			return nil, errors.New("it holds no certificate request in PEM form")
		}
		if block.Type != blockRequest && block.Type != "NEW CERTIFICATE REQUEST" {
			continue
		}
		request, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("the request cannot be read: %w", err)
		}
		if err := request.CheckSignature(); err != nil {
			return nil, fmt.Errorf("the request is not signed by its own key: %w", err)
		}
		return request, nil
	}
}

// EncodeCertificates returns certificates in PEM form.
func EncodeCertificates(certs ...*x509.Certificate) []byte {
	var text []byte
	for _, c := range certs {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: blockCert, Bytes: c.Raw})...)
	}
	return text
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockKey, Bytes: der}), nil
}

// ReadCertificates returns the certificates in a file.
func ReadCertificates(path string) ([]*x509.Certificate, error) {
	text, err := ReadFile(path)
	if err != nil {
		return nil, err
	}
	found, err := ParseCertificates(text)
	if err != nil {
		return nil, &Error{File: path, Problem: err.Error(), Err: err}
	}
	return found, nil
}

// ReadKey returns the first private key in a file.
func ReadKey(path string) (crypto.Signer, error) {
	text, err := ReadFile(path)
	if err != nil {
		return nil, err
	}
	key, err := ParseKey(text)
	if err != nil {
		return nil, &Error{File: path, Problem: err.Error(), Err: err}
	}
	return key, nil
}

// ReadFile returns what a plain file of bounded size holds.
func ReadFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fileError(path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, &Error{File: path, Problem: "it is not a plain file"}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fileError(path, err)
	}
	defer f.Close()
	text, err := ReadAll(f)
	if err != nil {
		return nil, fileError(path, err)
	}
	return text, nil
}

// ReadAll returns what a reader of bounded size gives.
func ReadAll(r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("it is longer than %d bytes", maxFile)
	}
	return text, err
}

// fileError says what to do where a file can't be read.
func fileError(path string, err error) error {
	e := &Error{File: path, Problem: err.Error(), Err: err}
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		e.Problem = pathErr.Err.Error()
	}
	if errors.Is(err, fs.ErrPermission) {
		e.Fix = "run the command as the user who owns the file"
	}
	return e
}
