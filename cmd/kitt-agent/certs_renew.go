package main

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/kirizan/kitt-agent/agent/certs"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
)

// newCertsRenewCommand returns `kitt-agent certs renew`.
func newCertsRenewCommand(env *environment) *cobra.Command {
	var caCert, caKey string
	var force bool
	cmd := &cobra.Command{
		Use:   "renew",
		Short: "Make a new key and certificate, or a request for one",
		Long: `Make a new key and certificate with the authority given, or with that of a KITT server on
this machine. Without one, write a new key and a request; what is in use stays until the
certificate comes with kitt-agent certs import.`,
		Example: "  kitt-agent certs renew\n  kitt-agent certs renew --ca-cert ca.pem --ca-key ca-key.pem",
		Args:    exactly(0, ""),
		RunE: func(*cobra.Command, []string) error {
			cfg, err := env.config(nil)
			if err != nil {
				return err
			}
			now := time.Now()
			authorities, err := readAuthorities(tlsFiles(cfg).CA)
			if err != nil {
				return fmt.Errorf("tls.ca: %w", err)
			}
			var authority *certs.Authority
			if caCert != "" || caKey != "" {
				if authority, err = loadAuthority(caCert, caKey, "kitt-agent certs renew", now); err != nil {
					return err
				}
			} else if found := certs.FindAuthority(env.authorityDirs(cfg), now); found != nil && holds(authorities, found.Cert) {
				authority = found
			}
			if authority == nil {
				return env.renewLater(cfg, force)
			}
			return env.renewNow(cfg, authority, authorities, now)
		},
	}
	f := cmd.Flags()
	f.StringVar(&caCert, "ca-cert", "", "`file` with the authority's certificate")
	f.StringVar(&caKey, "ca-key", "", "`file` with the authority's key")
	f.BoolVar(&force, "force", false, "make a new key for the request even if one waits for its certificate")
	return cmd
}

// renewNow makes a pair and puts it in the place of the one in use.
func (env *environment) renewNow(cfg *config.Config, authority *certs.Authority, authorities []*x509.Certificate, now time.Time) error {
	pair, err := authority.NewPair(certs.ThisMachine(cfg.Name), now)
	if err != nil {
		return err
	}
	files := ownFiles(cfg)
	files.CA = tlsFiles(cfg).CA
	if err := pair.Check("the new certificate", authorities, now); err != nil {
		return err
	}
	if err := certs.Replace(files, pair); err != nil {
		return err
	}
	return env.tookUp(cfg, files, pair, true)
}

// renewLater writes a request.
func (env *environment) renewLater(cfg *config.Config, force bool) error {
	request := certs.RequestFor(ownFiles(cfg).Cert)
	if err := request.Write(certs.ThisMachine(cfg.Name), force); err != nil {
		return err
	}
	_, err := fmt.Fprintf(env.stdout, "%s written; what is in use stays as it is.\n\nNext:\n  %s\n  %s\n", request.File, signStep(request), importStep)
	return err
}

// importStep is the command that installs what signStep makes.
const importStep = "kitt-agent certs import agent.pem"

// signStep is the command that somebody runs who has the authority's key.
func signStep(request certs.Request) string {
	return "kitt-agent certs sign " + request.File + " > agent.pem   # by whoever has the authority's key, as on the KITT server"
}

// holds reports whether cert is among the authorities. None means that any is.
func holds(authorities []*x509.Certificate, cert *x509.Certificate) bool {
	return len(authorities) == 0 || slices.ContainsFunc(authorities, cert.Equal)
}

// loadAuthority reads the authority that flags of a command name.
func loadAuthority(certFile, keyFile, command string, now time.Time) (*certs.Authority, error) {
	if certFile == "" || keyFile == "" {
		return nil, usageError(command+" --ca-cert ca.pem --ca-key ca-key.pem", "--ca-cert and --ca-key go together; to trust a server give --ca to init")
	}
	return certs.LoadAuthority(config.Expand(certFile), config.Expand(keyFile), now)
}
