package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/kirizan/kitt-agent/agent/certs"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
)

// newCertsImportCommand returns `kitt-agent certs import`.
func newCertsImportCommand(env *environment) *cobra.Command {
	var ca string
	cmd := &cobra.Command{
		Use:   "import <file>",
		Short: "Take up a certificate that was signed for the agent's request",
		Long: `Take up a certificate that was signed for the request which init or certs renew wrote.
It has to belong to that request's key or to the one in use, to be valid, for clients,
and from the authority in tls.ca. Certificates between it and its authority may follow
it in the file. The name - means standard input.`,
		Example: "  kitt-agent certs import agent.pem\n  kitt-agent certs import agent.pem --ca ca.pem",
		Args:    exactly(1, "the file with the certificate"),
		RunE: func(_ *cobra.Command, args []string) error {
			cfg, err := env.config(nil)
			if err != nil {
				return err
			}
			text, err := env.readCertificate(args[0])
			if err != nil {
				return err
			}
			return env.importCertificate(cfg, args[0], text, ca)
		},
	}
	cmd.Flags().StringVar(&ca, "ca", "", "`file` with the authority that signed the server's certificate, in place of tls.ca")
	return cmd
}

func (env *environment) readCertificate(path string) ([]*x509.Certificate, error) {
	if path != "-" {
		return certs.ReadCertificates(path)
	}
	text, err := certs.ReadAll(env.stdin)
	if err != nil {
		return nil, err
	}
	return certs.ParseCertificates(text)
}

// importCertificate puts chain, which came from the file named name, to use.
func (env *environment) importCertificate(cfg *config.Config, name string, chain []*x509.Certificate, ca string) error {
	files := ownFiles(cfg)
	request := certs.RequestFor(files.Cert)
	pair, fromRequest, err := findKey(files, request, chain)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	files.CA = tlsFiles(cfg).CA
	if ca != "" {
		if files.CA, err = filepath.Abs(config.Expand(ca)); err != nil {
			return err
		}
	}
	authorities, err := readAuthorities(files.CA)
	if err != nil {
		return fmt.Errorf("tls.ca: %w", err)
	}
	if err := pair.Check(name, authorities, time.Now()); err != nil {
		return err
	}
	for _, a := range pair.Advice(name) {
		env.say("kitt-agent: warning: %s", a)
	}
	if err := certs.Replace(files, pair); err != nil {
		return err
	}
	return env.tookUp(cfg, files, pair, fromRequest)
}

// findKey returns the pair of chain and the key that it belongs to: that of the
// request, or the one in use.
func findKey(files certs.Files, request certs.Request, chain []*x509.Certificate) (pair *certs.Pair, fromRequest bool, err error) {
	for _, keyFile := range []string{request.Key, files.Key} {
		key, err := certs.ReadKey(keyFile)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, false, err
		}
		if pair := (&certs.Pair{Chain: chain, Key: key}); pair.Matches() {
			return pair, keyFile == request.Key, nil
		}
	}
	if !request.Pending() {
		return nil, false, errors.New("there is no key that it belongs to; write a request first: kitt-agent certs renew")
	}
	return nil, false, fmt.Errorf("the certificate belongs neither to the key of %s nor to the one in use; have that request signed", request.File)
}

// tookUp removes the request that was answered, writes the names of the files
// into agent.yaml, and says what was done.
func (env *environment) tookUp(cfg *config.Config, files certs.Files, pair *certs.Pair, removeRequest bool) error {
	changed, err := configureTLS(cfg, files)
	if err != nil {
		return fmt.Errorf("the certificate is in %s, but %w", files.Cert, err)
	}
	if removeRequest {
		if err := certs.RequestFor(files.Cert).Remove(); err != nil {
			return err
		}
	}
	info := certs.Describe(pair.Leaf(), time.Now())
	next := "A running agent shows it from its next connection on."
	if changed {
		next = "A running agent needs a restart, as " + cfg.Path + " has changed."
	}
	_, err = fmt.Fprintf(env.stdout, "%s: %s, %s\n%s\n", files.Cert, info.Subject, lasts(&info), next)
	return err
}
