package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxCommonName is X.520's bound of a common name, in characters.
const maxCommonName = 64

// maxAddresses bounds the machine's addresses in a certificate.
const maxAddresses = 16

// A Subject is who a certificate is for: an agent, and under which names and
// addresses its own API is reached.
type Subject struct {
	Name string // the agent's
	DNS  []string
	IPs  []net.IP
}

// ThisMachine returns the subject of an agent on this machine.
func ThisMachine(name string) Subject {
	s := Subject{Name: name, IPs: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}}
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	for _, dns := range []string{name, host, "localhost"} {
		if isHostName(dns) && !slices.Contains(s.DNS, dns) {
			s.DNS = append(s.DNS, dns)
		}
	}
	s.IPs = append(s.IPs, addresses()...)
	return s
}

// addresses returns the addresses under which others may reach the machine: not
// those of bridges for containers, which are the same on every machine.
func addresses() []net.IP {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var found []net.IP
	for _, i := range interfaces {
		inner := slices.ContainsFunc([]string{"docker", "br-", "veth", "virbr", "cni", "flannel", "cali"}, func(prefix string) bool {
			return strings.HasPrefix(i.Name, prefix)
		})
		if inner || i.Flags&net.FlagUp == 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() && len(found) < maxAddresses {
				found = append(found, n.IP)
			}
		}
	}
	return found
}

// isHostName reports whether a certificate can carry the text as a DNS name.
func isHostName(text string) bool {
	if text == "" || len(text) > 253 {
		return false
	}
	for label := range strings.SplitSeq(text, ".") {
		if label == "" || len(label) > 63 || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return false
		}
		for _, r := range label {
			if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_') {
				return false
			}
		}
	}
	return true
}

// name returns the subject as the KITT server's own tools write it.
func (s Subject) name() pkix.Name {
	common := "agent-" + s.Name
	for utf8.RuneCountInString(common) > maxCommonName {
		_, last := utf8.DecodeLastRuneInString(common)
		common = common[:len(common)-last]
	}
	return pkix.Name{CommonName: common, Organization: []string{"KITT"}}
}

// NewKey makes a key of the kind that agents have: ECDSA on P-256.
func NewKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// A Request is a key that waits for its certificate, and the text that asks for
// one. It is next to the pair in use, which it leaves alone.
type Request struct {
	File string // the request, in PEM form
	Key  string
}

// RequestFor returns where the request stands for a certificate's file.
func RequestFor(certFile string) Request {
	base := strings.TrimSuffix(certFile, ".pem")
	return Request{File: base + "-request.pem", Key: base + "-request-key.pem"}
}

// Pending reports whether there is a key that waits.
func (r Request) Pending() bool { return exists(r.Key) }

// Remove removes the request and its key, if they are there.
func (r Request) Remove() error {
	var errs []error
	for _, path := range []string{r.File, r.Key} {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Write writes the request. A key that waits already is kept, unless fresh, since
// its certificate may be under way, and so is a request that asks for the same.
func (r Request) Write(s Subject, fresh bool) error {
	key, err := ReadKey(r.Key)
	if errors.Is(err, fs.ErrNotExist) || fresh {
		made, err := NewKey()
		if err != nil {
			return err
		}
		text, err := encodeKey(made)
		if err != nil {
			return err
		}
		if err := WriteFile(r.Key, text); err != nil {
			return err
		}
		key = made
	} else if err != nil {
		return err
	}
	text, err := encodeRequest(s, key)
	if err != nil {
		return err
	}
	if r.asksFor(text) {
		return nil
	}
	return WriteFile(r.File, text)
}

// asksFor reports whether the request's file asks for the same as text does: for
// the same names with the same key. Their signatures differ each time.
func (r Request) asksFor(text []byte) bool {
	before, err := ReadFile(r.File)
	if err != nil {
		return false
	}
	was, err := ParseRequest(before)
	if err != nil {
		return false
	}
	is, err := ParseRequest(text)
	return err == nil && bytes.Equal(was.RawTBSCertificateRequest, is.RawTBSCertificateRequest)
}

// usages is the extension (RFC 5280, 4.2.1.12) by which a request asks for both
// usages, for authorities that copy what they are asked for.
func usages() (pkix.Extension, error) {
	value, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 2}, {1, 3, 6, 1, 5, 5, 7, 3, 1}})
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Value: value}, err
}

func encodeRequest(s Subject, key crypto.Signer) ([]byte, error) {
	both, err := usages()
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: s.name(), DNSNames: s.DNS, IPAddresses: s.IPs, ExtraExtensions: []pkix.Extension{both},
	}, key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockRequest, Bytes: der}), nil
}
