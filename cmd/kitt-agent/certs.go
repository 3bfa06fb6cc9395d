package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kirizan/kitt-agent/agent/certs"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
)

// newCertsCommand returns `kitt-agent certs`.
func newCertsCommand(env *environment) *cobra.Command {
	return group(&cobra.Command{
		Use:   "certs",
		Short: "Show, import, renew or sign the agent's certificate",
		Long: `Show, import, renew or sign the certificate that the agent shows the server, and that
its own API is served with. kitt-agent init makes the first one. A running agent takes
up changed files by itself.`,
		Example: "  kitt-agent certs show\n  kitt-agent certs renew\n  kitt-agent certs import agent.pem",
	}, newCertsShowCommand(env), newCertsImportCommand(env), newCertsRenewCommand(env), newCertsSignCommand(env))
}

// certsReport is what `certs show --json` prints.
type certsReport struct {
	Cert        string      `json:"cert"` // files; empty where none is configured
	Key         string      `json:"key"`
	CA          string      `json:"ca"`
	Certificate *certs.Info `json:"certificate"`
	Authority   *certs.Info `json:"authority"`
	Request     string      `json:"request,omitempty"` // that waits for its certificate
	Problems    []string    `json:"problems"`
	Warnings    []string    `json:"warnings"`
}

// newCertsShowCommand returns `kitt-agent certs show`.
func newCertsShowCommand(env *environment) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show the agent's certificate, whose it is, what it is for and when it ends",
		Long: `Show the agent's certificate, whose it is, what it is for and when it ends, and the
authority that the server is checked against.

Exits with 1 if the certificate cannot be used.`,
		Example: "  kitt-agent certs show\n  kitt-agent certs show --json",
		Args:    exactly(0, ""),
		RunE: func(*cobra.Command, []string) error {
			cfg, err := env.config(nil)
			if err != nil {
				return err
			}
			report := showCerts(cfg, time.Now())
			if asJSON {
				err = env.printJSON(report)
			} else {
				err = writeCerts(env.stdout, report)
			}
			if err == nil && len(report.Problems) > 0 {
				return &codedError{code: exitFailure}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// showCerts looks at the files that cfg names.
func showCerts(cfg *config.Config, now time.Time) *certsReport {
	files := tlsFiles(cfg)
	report := &certsReport{Cert: files.Cert, Key: files.Key, CA: files.CA, Problems: []string{}, Warnings: []string{}}
	problem := func(err error) {
		report.Problems = append(report.Problems, strings.Split(err.Error(), "\n")...)
	}
	authorities, err := readAuthorities(files.CA)
	if err != nil {
		problem(fmt.Errorf("tls.ca: %w", err))
	} else if len(authorities) > 0 {
		info := certs.Describe(authorities[0], now)
		report.Authority = &info
	}
	if request := certs.RequestFor(ownFiles(cfg).Cert); request.Pending() {
		report.Request = request.File
	}
	if !cfg.ServesTLS() {
		return report
	}
	pair, err := loadPair(files)
	report.Certificate = certificate(cfg, now) // also where its key is not to be read
	if err != nil {
		problem(err)
		return report
	}
	if err := pair.Check(files.Cert, authorities, now); err != nil {
		problem(err)
	} else {
		report.Warnings = append(report.Warnings, certs.Expiry(files, now)...)
	}
	report.Warnings = append(report.Warnings, pair.Advice(files.Cert)...)
	return report
}

// writeCerts writes the report for a person.
func writeCerts(out io.Writer, r *certsReport) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, value string) { fmt.Fprintf(w, "%s\t%s\n", name, printable(value)) }
	if c := r.Certificate; c != nil {
		row("Certificate", c.Subject)
		row("For", strings.Join(c.Names, ", "))
		row("Usages", strings.Join(c.Usages, ", "))
		row("Issuer", c.Issuer)
		row("SHA-256", c.Fingerprint)
		row("Valid", "from "+c.Begins.UTC().Format(time.DateOnly)+" "+lasts(c))
		row("Files", r.Cert+", "+r.Key)
	} else {
		row("Certificate", "none")
	}
	if a := r.Authority; a != nil {
		row("Server's CA", a.Subject+", "+lasts(a))
		row("SHA-256", a.Fingerprint)
		row("File", r.CA)
	} else {
		row("Server's CA", "the system's")
	}
	if r.Request != "" {
		row("Request", r.Request+" waits for its certificate: kitt-agent certs import FILE")
	}
	for _, p := range r.Problems {
		row("Problem", p)
	}
	for _, warning := range r.Warnings {
		row("Warning", warning)
	}
	return w.Flush()
}

// readAuthorities returns the certificates in a CA file, none for no file.
func readAuthorities(path string) (found []*x509.Certificate, err error) {
	if path == "" {
		return nil, nil
	}
	return certs.ReadCertificates(path)
}

// loadPair reads a pair, after completing what a crash may have cut off.
func loadPair(files certs.Files) (*certs.Pair, error) {
	if err := certs.Recover(files); err != nil {
		return nil, err
	}
	return certs.Load(files)
}

// ownFiles returns where the agent keeps a pair of its own making: where
// agent.yaml says, or in the directory certs of its home.
func ownFiles(cfg *config.Config) certs.Files {
	if cfg.ServesTLS() {
		return tlsFiles(cfg)
	}
	return homeFiles(cfg)
}

// configureTLS writes the names of files into agent.yaml where it has others.
// It reports whether it did.
func configureTLS(cfg *config.Config, files certs.Files) (bool, error) {
	if tlsFiles(cfg) == files {
		return false, nil
	}
	file, err := config.Open(cfg.Path)
	if errors.Is(err, os.ErrNotExist) {
		return false, fmt.Errorf("%s is not there; make it with: kitt-agent init --server https://server:8080", cfg.Path)
	}
	if err != nil {
		return false, err
	}
	return true, errors.Join(setTLS(file, files), file.Save())
}

// setTLS sets the names of files.
func setTLS(file *config.File, files certs.Files) error {
	for _, key := range []struct{ name, value string }{{"tls.cert", files.Cert}, {"tls.key", files.Key}, {"tls.ca", files.CA}} {
		if key.value == "" {
			continue
		}
		if err := file.Set(key.name, key.value); err != nil {
			return err
		}
	}
	return nil
}
