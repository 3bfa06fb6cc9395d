package main

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/agent/certs"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/logging"
)

// identityReport is what init did about TLS.
type identityReport struct {
	State       string      `json:"state"` // signed (a new one), existing or requested
	Certificate *certs.Info `json:"certificate,omitempty"`
	Request     string      `json:"request,omitempty"`
	CA          string      `json:"ca,omitempty"`             // file of the server's authority; empty means the system's
	Fingerprint string      `json:"ca_fingerprint,omitempty"` // of the authority that the server shows, SHA-256
	Pinned      bool        `json:"ca_pinned"`                // whether that one is trusted from now on
}

// identity finds the agent's certificate and the server's authority for init, in
// this order: what flags, variables or agent.yaml name; a pair that an earlier
// init made; an authority that can sign, given or of a server on this machine; a
// request for somebody else to sign.
type identity struct {
	env   *environment
	cfg   *config.Config
	flags initFlags
	given map[string]string // flags by key
	now   time.Time

	chain    []*x509.Certificate // that the server showed
	chainErr error

	report   identityReport
	files    certs.Files // for agent.yaml
	warnings []string
	next     []string // commands
}

// find does it. Files are written only once it is known that all is well.
func (i *identity) find(ctx context.Context) error {
	if !strings.HasPrefix(i.cfg.ServerURL, "https://") {
		if i.flags.caCert+i.flags.caKey+i.flags.caFingerprint != "" {
			return usageError("kitt-agent init --server https://server:8080", "there are no certificates with a server over http")
		}
		return nil
	}
	i.files = tlsFiles(i.cfg)
	own := homeFiles(i.cfg)
	toSign := i.flags.caCert+i.flags.caKey != ""
	if toSign && i.given["tls.cert"]+i.given["tls.key"] != "" {
		return usageError("kitt-agent init --ca-cert ca.pem --ca-key ca-key.pem", "--cert and --key name a certificate that exists, --ca-cert and --ca-key make one")
	}
	if err := certs.Recover(own); err != nil {
		return err
	}
	switch {
	case i.cfg.ServesTLS():
		if toSign {
			i.warnings = append(i.warnings, "the certificate in "+i.files.Cert+" stays; kitt-agent certs renew makes a new one")
		}
		return i.existing(ctx)
	case !i.flags.force && certs.Exist(own):
		i.files.Cert, i.files.Key = own.Cert, own.Key
		if i.files.CA == "" {
			i.files.CA = i.ownAuthority(own)
		}
		return i.existing(ctx)
	case toSign:
		authority, err := loadAuthority(i.flags.caCert, i.flags.caKey, "kitt-agent init", i.now)
		if err != nil {
			return err
		}
		return i.sign(ctx, authority)
	}
	i.look(ctx)
	if authority := i.localAuthority(); authority != nil {
		return i.sign(ctx, authority)
	}
	return i.request(ctx, own)
}

// look asks the server which certificates it shows.
func (i *identity) look(ctx context.Context) {
	if i.chain == nil && i.chainErr == nil {
		i.chain, i.chainErr = certs.Fetch(ctx, i.cfg.ServerURL, http.ProxyFromEnvironment)
	}
}

// existing checks a pair that is there already. What is wrong with one that the
// user has just named is an error; with one from before it is a warning, since
// the user may be about something else.
func (i *identity) existing(ctx context.Context) error {
	i.report.State = "existing"
	authority, err := i.authority(ctx)
	if err != nil {
		return err
	}
	pair, err := loadPair(i.files)
	if err == nil {
		info := certs.Describe(pair.Leaf(), i.now)
		i.report.Certificate = &info
		authorities, caErr := readAuthorities(i.files.CA)
		if authority != nil {
			authorities = []*x509.Certificate{authority}
		}
		if err = caErr; err == nil {
			err = pair.Check(i.files.Cert, authorities, i.now)
		}
		i.warnings = append(i.warnings, pair.Advice(i.files.Cert)...)
	}
	configured := i.given["tls.cert"]+i.given["tls.key"]+i.given["tls.ca"] == "" && i.cfg.ServesTLS()
	if err != nil && !configured {
		return err
	}
	if err != nil {
		i.warnings = append(i.warnings, err.Error())
	}
	return i.pin(authority)
}

// sign makes a pair that authority signs, which is then the one to trust.
func (i *identity) sign(ctx context.Context, authority *certs.Authority) error {
	if fault := i.checkFingerprint(authority.Cert); fault != nil {
		return fault
	}
	i.look(ctx)
	if i.chainErr == nil && !authority.Signed(i.chain) {
		i.warnings = append(i.warnings, fmt.Sprintf("the server's certificate (%s) is not from the authority that signed the agent's (%s)",
			i.chain[0].Subject, authority.Cert.Subject))
	}
	pair, err := authority.NewPair(certs.ThisMachine(i.cfg.Name), i.now)
	if err != nil {
		return err
	}
	own := homeFiles(i.cfg)
	if err := certs.Replace(own, pair); err != nil {
		return err
	}
	i.files.Cert, i.files.Key = own.Cert, own.Key
	if i.files.CA == "" {
		if err := i.pin(authority.Cert); err != nil {
			return err
		}
	}
	i.report.State, i.report.CA = "signed", i.files.CA
	info := certs.Describe(pair.Leaf(), i.now)
	i.report.Certificate = &info
	return nil
}

// request writes a key and a request.
func (i *identity) request(ctx context.Context, own certs.Files) error {
	authority, err := i.authority(ctx)
	if err != nil {
		return err
	}
	request := certs.RequestFor(own.Cert)
	if err := request.Write(certs.ThisMachine(i.cfg.Name), i.flags.force); err != nil {
		return err
	}
	i.report.State, i.report.Request = "requested", request.File
	i.next = append(i.next, signStep(request), importStep)
	return i.pin(authority)
}

// authority returns the server's authority where it is to be trusted from now
// on, and nil where none is to be added.
func (i *identity) authority(ctx context.Context) (*x509.Certificate, error) {
	if i.files.CA != "" {
		all, err := certs.ReadCertificates(i.files.CA)
		if err != nil {
			return nil, fmt.Errorf("tls.ca: %w", err)
		}
		return nil, i.checkFingerprint(all...)
	}
	i.look(ctx)
	shown, err := i.shown()
	if shown == nil {
		return nil, err
	}
	fingerprint := certs.FingerprintOf(shown)
	i.report.Fingerprint = fingerprint.String()
	switch {
	case i.flags.caFingerprint != "":
		return shown, i.checkFingerprint(shown)
	case i.flags.insecure:
		return nil, nil
	case logging.IsTerminal(i.env.stdin):
		return shown, i.ask(shown)
	}
	i.warnings = append(i.warnings, fmt.Sprintf("the server's certificate is from an authority that is not trusted yet: %s, SHA-256 %s; "+
		"compare that with what the server printed when it started, then pin it: kitt-agent init --ca-fingerprint %s", shown.Subject, fingerprint, fingerprint))
	i.next = append(i.next, "kitt-agent init --ca-fingerprint "+fingerprint.String())
	return nil, nil
}

// shown returns the authority that the server shows and that the machine does
// not trust anyway. That there is none is an error only where the user named its
// fingerprint.
func (i *identity) shown() (*x509.Certificate, error) {
	u, err := url.Parse(i.cfg.ServerURL)
	if err != nil {
		return nil, err
	}
	named := i.flags.caFingerprint != ""
	if i.chainErr != nil {
		if named {
			return nil, fmt.Errorf("the server could not be asked for its certificate: %w", i.chainErr)
		}
		return nil, nil // which init says anyway
	}
	if !named && certs.KnownToSystem(i.chain, u.Hostname()) {
		return nil, nil
	}
	shown, err := certs.AuthorityOf(i.chain)
	if err != nil && !named {
		i.warnings = append(i.warnings, err.Error())
		return nil, nil
	}
	return shown, err
}

// checkFingerprint returns an error unless one of the certificates is the one
// that --ca-fingerprint names, where it is given.
func (i *identity) checkFingerprint(authorities ...*x509.Certificate) error {
	if i.flags.caFingerprint == "" {
		return nil
	}
	want, err := certs.ParseFingerprint(i.flags.caFingerprint)
	if err != nil {
		return usageError("kitt-agent init --ca-fingerprint AB:CD:…", "--ca-fingerprint: %s", err)
	}
	if slices.ContainsFunc(authorities, func(c *x509.Certificate) bool { return certs.FingerprintOf(c) == want }) {
		return nil
	}
	return fmt.Errorf("the authority's fingerprint is %s, not the one given with --ca-fingerprint; nothing was written. "+
		"Either the number is from another server, or somebody else answers in its place", certs.FingerprintOf(authorities[0]))
}

// ask shows the authority to the person at the terminal, who has to say yes.
func (i *identity) ask(shown *x509.Certificate) error {
	i.env.say("The server's certificate is from an authority that this machine does not know:\n"+
		"  %s, valid until %s\n  SHA-256 %s\n"+
		"Compare the number with what the server printed when it started. Without that anybody\ncould be in between.",
		printable(shown.Subject.String()), shown.NotAfter.UTC().Format(time.DateOnly), certs.FingerprintOf(shown))
	fmt.Fprint(i.env.stderr, "Trust it from now on? [y/N] ")
	line, err := bufio.NewReader(io.LimitReader(i.env.stdin, maxTokenFile)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if answer := strings.ToLower(strings.TrimSpace(line)); answer == "y" || answer == "yes" {
		return nil
	}
	return errors.New("the authority is not trusted; nothing was written. Copy the right one from the server and give it with --ca FILE")
}

// pin writes the authority where the agent keeps its own files. One of a KITT
// server that lives there is left alone.
func (i *identity) pin(authority *x509.Certificate) error {
	i.report.CA = i.files.CA
	if authority == nil {
		return nil
	}
	path := homeFiles(i.cfg).CA
	known, err := certs.ReadCertificates(path)
	if err != nil || !slices.ContainsFunc(known, authority.Equal) {
		if _, err := os.Lstat(filepath.Join(filepath.Dir(path), "ca-key.pem")); err == nil {
			path = filepath.Join(filepath.Dir(path), "agent-ca.pem")
		}
		if err := certs.WriteFile(path, certs.EncodeCertificates(authority)); err != nil {
			return err
		}
	}
	i.files.CA = path
	i.report.CA, i.report.Fingerprint, i.report.Pinned = path, certs.FingerprintOf(authority).String(), true
	return nil
}

// ownAuthority returns the authority next to a pair that an earlier init made, if
// it is the pair's.
func (i *identity) ownAuthority(own certs.Files) string {
	pair, err := certs.Load(own)
	if err != nil {
		return ""
	}
	for _, path := range []string{own.CA, filepath.Join(filepath.Dir(own.CA), "agent-ca.pem")} {
		all, err := certs.ReadCertificates(path)
		if err == nil && pair.Check(own.Cert, all, i.now) == nil {
			return path
		}
	}
	return ""
}

// localAuthority returns the authority of a KITT server on this machine, if it
// is the one of the server that is meant: the server's certificate says so, or,
// while the server is away, its address does.
func (i *identity) localAuthority() *certs.Authority {
	authority := certs.FindAuthority(i.env.authorityDirs(i.cfg), i.now)
	if authority == nil {
		return nil
	}
	known, err := readAuthorities(i.files.CA)
	if err != nil || !holds(known, authority.Cert) {
		return nil
	}
	if i.chainErr == nil && authority.Signed(i.chain) || i.chainErr != nil && isLocal(i.cfg.ServerURL) {
		return authority
	}
	return nil
}

// isLocal reports whether an address is this machine's by its very name.
func isLocal(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	own, err := os.Hostname()
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback() || err == nil && u.Hostname() == own
}

// homeFiles returns where init keeps what it makes.
func homeFiles(cfg *config.Config) certs.Files {
	dir := filepath.Join(cfg.Home, "certs")
	return certs.Files{Cert: filepath.Join(dir, "agent.pem"), Key: filepath.Join(dir, "agent-key.pem"), CA: filepath.Join(dir, "ca.pem")}
}

// authorityDirs returns where a KITT server on this machine may keep its
// authority. cfg may be nil.
func (env *environment) authorityDirs(cfg *config.Config) []string {
	var dirs []string
	if home := env.getenv("HOME"); home != "" {
		dirs = append(dirs, filepath.Join(home, ".kitt", "certs"))
	}
	if cfg != nil {
		dirs = append(dirs, filepath.Join(cfg.Home, "certs"))
	}
	return dirs
}
