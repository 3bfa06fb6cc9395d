package certs

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"github.com/kirizan/kitt-agent/internal/base"
)

// How long to wait for another process that replaces the same pair.
const (
	lockTimeout = 10 * time.Second
	lockPoll    = 20 * time.Millisecond
)

// A Pair is a certificate and its key.
type Pair struct {
	Chain []*x509.Certificate // the agent's own first, then what is between it and its authority
	Key   crypto.Signer
}

// Load reads the pair in files. The error says what to do if one of them is
// missing or the two don't belong together.
func Load(files Files) (*Pair, error) {
	chain, err := ReadCertificates(files.Cert)
	if err != nil {
		return nil, advise(err)
	}
	key, err := ReadKey(files.Key)
	if err != nil {
		return nil, advise(err)
	}
	p := &Pair{Chain: chain, Key: key}
	if !p.Matches() {
		return nil, &Error{File: files.Key, Problem: "the key does not belong to the certificate in " + files.Cert, Err: errMismatch,
			Fix: "put the two that belong together there, or make a new pair: kitt-agent certs renew"}
	}
	return p, nil
}

// errMismatch is matched by the error of a pair whose key is another's.
var errMismatch = errors.New("certificate and key do not match")

// Matches reports whether the key is the certificate's.
func (p *Pair) Matches() bool { return samePublic(p.Key.Public(), p.Chain[0].PublicKey) }

// advise adds to the error of a missing file where one comes from.
func advise(err error) error {
	e, ok := errors.AsType[*Error](err)
	if ok && e.Fix == "" && errors.Is(err, fs.ErrNotExist) {
		e.Fix = "make a pair with kitt-agent certs renew, or name others with kitt-agent init --cert FILE --key FILE"
	}
	return err
}

// Leaf returns the agent's own certificate.
func (p *Pair) Leaf() *x509.Certificate { return p.Chain[0] }

// TLS returns the pair as crypto/tls has it.
func (p *Pair) TLS() *tls.Certificate {
	t := &tls.Certificate{PrivateKey: p.Key, Leaf: p.Chain[0]}
	for _, c := range p.Chain {
		t.Certificate = append(t.Certificate, c.Raw)
	}
	return t
}

// Replace puts a pair in the place of the one in files, or of none. Whenever it
// is interrupted, the old pair or the new one can be used; see [Recover].
func Replace(files Files, p *Pair) error {
	if !p.Matches() {
		return errMismatch
	}
	keyText, err := encodeKey(p.Key)
	if err != nil {
		return err
	}
	certText := EncodeCertificates(p.Chain...)
	files = followed(files)
	if err := os.MkdirAll(filepath.Dir(files.Cert), 0o700); err != nil {
		return err
	}
	unlock, err := lock(files.Cert)
	if err != nil {
		return err
	}
	defer unlock()
	if files.Cert == files.Key {
		return WriteFile(files.Cert, append(certText, keyText...))
	}
	if err := errors.Join(WriteFile(next(files.Key), keyText), WriteFile(next(files.Cert), certText)); err != nil {
		return err
	}
	return errors.Join(os.Rename(next(files.Key), files.Key), moveCert(files))
}

// moveCert is the second half of a replacement.
func moveCert(files Files) error {
	if err := os.Rename(next(files.Cert), files.Cert); err != nil {
		return err
	}
	return base.SyncDir(filepath.Dir(files.Cert))
}

// Recover completes a replacement that was cut off between its two halves. It
// touches nothing that can be used as it is.
func Recover(files Files) error {
	files = followed(files)
	if _, err := Load(files); err == nil || !halfway(files) {
		return nil // nothing to do, or nothing to be done
	}
	unlock, err := lock(files.Cert)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := Load(files); err == nil || !halfway(files) {
		return nil
	}
	return moveCert(files)
}

// halfway reports whether the certificate that belongs to the key is still under
// its other name.
func halfway(files Files) bool {
	_, err := Load(Files{Cert: next(files.Cert), Key: files.Key})
	return err == nil
}

// next returns where a new file waits for its turn.
func next(path string) string { return path + ".next" }

// followed returns files with links resolved, so that what a link points to is
// replaced rather than the link.
func followed(files Files) Files {
	for _, path := range []*string{&files.Cert, &files.Key} {
		if target, err := filepath.EvalSymlinks(*path); err == nil {
			*path = target
		}
	}
	return files
}

// lock keeps other processes from replacing the pair.
func lock(certFile string) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(context.Background(), lockTimeout)
	defer cancel()
	l := flock.New(certFile+".lock", flock.SetPermissions(0o600))
	if ok, err := l.TryLockContext(ctx, lockPoll); !ok {
		return nil, fmt.Errorf("another process is replacing %s: %w", certFile, err)
	}
	return func() { _ = l.Close() }, nil
}

// WriteFile writes a file that only its owner can read, whole or not at all, and
// its directory if need be.
func WriteFile(path string, text []byte) error { return base.WritePrivate(path, text) }
