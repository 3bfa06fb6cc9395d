package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/kirizan/kitt-agent/agent/certs"
)

// newCertsSignCommand returns `kitt-agent certs sign`.
func newCertsSignCommand(env *environment) *cobra.Command {
	var caCert, caKey string
	cmd := &cobra.Command{
		Use:   "sign <request>",
		Short: "Sign an agent's request with the KITT server's authority",
		Long: `Sign an agent's request with the authority given, or with that of the KITT server on this
machine, and print the certificate. Look at whose request it is before: whoever has the
certificate is that agent. The name - means standard input.`,
		Example: "  kitt-agent certs sign agent-request.pem > agent.pem\n  kitt-agent certs sign agent-request.pem --ca-cert ca.pem --ca-key ca-key.pem > agent.pem",
		Args:    exactly(1, "the file with the request"),
		RunE: func(_ *cobra.Command, args []string) error {
			now := time.Now()
			authority := certs.FindAuthority(env.authorityDirs(nil), now)
			if caCert != "" || caKey != "" {
				var err error
				if authority, err = loadAuthority(caCert, caKey, "kitt-agent certs sign "+args[0], now); err != nil {
					return err
				}
			}
			if authority == nil {
				return errors.New("no authority of a KITT server was found in ~/.kitt/certs; give it with --ca-cert and --ca-key")
			}
			return env.signRequest(args[0], authority, now)
		},
	}
	cmd.Flags().StringVar(&caCert, "ca-cert", "", "`file` with the authority's certificate")
	cmd.Flags().StringVar(&caKey, "ca-key", "", "`file` with the authority's key")
	return cmd
}

func (env *environment) signRequest(path string, authority *certs.Authority, now time.Time) error {
	read := func() ([]byte, error) { return certs.ReadFile(path) }
	if path == "-" {
		read = func() ([]byte, error) { return certs.ReadAll(env.stdin) }
	}
	text, err := read()
	if err != nil {
		return err
	}
	request, err := certs.ParseRequest(text)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	cert, err := authority.Sign(request, now)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	info := certs.Describe(cert, now)
	env.say("signed %s for %s, %s", printable(info.Subject), printable(fmt.Sprint(info.Names)), lasts(&info))
	_, err = env.stdout.Write(certs.EncodeCertificates(cert))
	return err
}
