package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/logging"
	"github.com/kirizan/kitt-agent/internal/base"
)

// maxTokenFile is how much of a file that holds a token is read, in bytes.
const maxTokenFile = 4096

// initKeys are the flags of init and the keys that they set.
var initKeys = map[string]string{
	"server":       "server_url",
	"name":         "name",
	"port":         "port",
	"token":        "token",
	"server-token": "server_token",
	"model-dir":    "model_storage_dir",
	"share-source": "model_share_source",
	"share-mount":  "model_share_mount",
	"cert":         "tls.cert",
	"key":          "tls.key",
	"ca":           "tls.ca",
}

// initReport is what `init --json` prints.
type initReport struct {
	Config      string   `json:"config"`
	Created     bool     `json:"created"`
	Changed     bool     `json:"changed"` // whether the file was written; true too if it was created
	Name        string   `json:"name"`
	ServerURL   string   `json:"server_url"`
	Reachable   bool     `json:"server_reachable"`
	ServerError string   `json:"server_error,omitempty"`
	Warnings    []string `json:"warnings"`

	TLS  *identityReport `json:"tls,omitempty"` // with an https server
	Next []string        `json:"next"`          // commands
}

// initFlags are the flags of init that aren't settings.
type initFlags struct {
	tokenFile string
	newToken  bool
	force     bool
	insecure  bool
	json      bool

	caCert, caKey string // of an authority that signs
	caFingerprint string
}

// newInitCommand returns `kitt-agent init`.
func newInitCommand(env *environment) *cobra.Command {
	var flags initFlags
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write agent.yaml",
		Long: `Write agent.yaml, or change in it what flags and variables name and keep the rest.

For a server over https it also sees to the agent's certificate: one that exists, with
--cert and --key; a new one, signed by the authority in --ca-cert and --ca-key or by that
of a KITT server on this machine; or else a request, which somebody signs and
kitt-agent certs import installs. Without --ca, the authority is taken from the server,
and trusted only after a yes at the terminal or with its --ca-fingerprint.

A token is made if the agent has none and the server doesn't know its name yet: a server
takes the token of an agent that it sees for the first time, and no other after that.
Run again with the same flags, init changes nothing.

A token given with --token can be seen by other users of the machine while the
command runs; --token-file and KITT_TOKEN cannot.`,
		Example: `  kitt-agent init --server https://server:8080 --token-file token
  kitt-agent init --server https://server:8080 --ca ~/.kitt/certs/ca.pem
  kitt-agent init --server https://server:8080 --ca-cert ca.pem --ca-key ca-key.pem
  kitt-agent init --server http://server:8080 --new-token \
      --model-dir /data/models --share-source nas:/volume1/models --share-mount /mnt/models
  kitt-agent init --name gpu-7`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			given := changed(cmd, initKeys)
			flags.insecure = env.insecure
			report, err := env.init(cmd.Context(), given, flags)
			if err != nil {
				return err
			}
			if flags.json {
				return env.printJSON(report)
			}
			return env.printInit(report)
		},
	}
	f := cmd.Flags()
	f.String("server", "", "`address` of the KITT server, such as https://server:8080")
	f.String("name", "", "the agent's name at the server (default the host name)")
	f.Int("port", 8090, "port of the agent's own API")
	f.String("token", "", "the agent's token")
	f.StringVar(&flags.tokenFile, "token-file", "", "`file` that holds the agent's token, - for standard input")
	f.BoolVar(&flags.newToken, "new-token", false, "make a token even if the server is away or knows the agent; one that the agent has stays")
	f.String("server-token", "", "the server's own token, where it has one")
	f.String("model-dir", "", "`directory` for copies of models (default ~/.kitt/models)")
	f.String("share-source", "", "share that models are copied from, such as nas:/volume1/models")
	f.String("share-mount", "", "`directory` where the share is mounted")
	f.String("ca", "", "`file` with the authority that signed the server's certificate")
	f.String("cert", "", "`file` with the agent's certificate")
	f.String("key", "", "`file` with the certificate's key")
	f.StringVar(&flags.caCert, "ca-cert", "", "`file` with the certificate of an authority that is to sign the agent's")
	f.StringVar(&flags.caKey, "ca-key", "", "`file` with that authority's key")
	f.StringVar(&flags.caFingerprint, "ca-fingerprint", "", "SHA-256 `fingerprint` of the server's authority, which is trusted if it has that one")
	f.BoolVar(&flags.force, "force", false, "begin a new file, with a new key; the token stays unless --new-token is given, and the old file as agent.yaml.previous")
	env.insecureFlag(cmd)
	f.BoolVar(&flags.json, "json", false, "print one JSON object")
	return cmd
}

// init writes agent.yaml. given are the values of flags by key.
func (env *environment) init(ctx context.Context, given map[string]string, flags initFlags) (*initReport, error) {
	if err := env.readToken(given, flags); err != nil {
		return nil, err
	}
	if err := absolute(given); err != nil {
		return nil, err
	}
	path, err := env.path()
	if err != nil {
		return nil, err
	}
	file, created, err := openForInit(path, flags.force)
	if err != nil {
		return nil, err
	}
	variables := env.variables(given)
	if given["server_url"] == "" && !file.Has("server_url") {
		if given["server_url"], err = env.askServer(); err != nil {
			return nil, err
		}
	}
	if err := fill(file, given, variables, created || flags.force); err != nil {
		return nil, err
	}
	cfg, warnings, err := file.Check(env.getenv)
	if err != nil {
		return nil, err
	}
	who := &identity{env: env, cfg: cfg, flags: flags, given: given, now: time.Now()}
	if err := who.find(ctx); err != nil {
		return nil, err
	}
	if err := setTLS(file, who.files); err != nil {
		return nil, err
	}
	if cfg, _, err = file.Check(env.getenv); err != nil {
		return nil, err
	}
	server := lookUp(ctx, cfg, flags.insecure)
	token, err := env.setToken(file, cfg, flags, server)
	if err != nil {
		return nil, err
	}
	if cfg, _, err = file.Check(env.getenv); err != nil {
		return nil, err
	}
	report := &initReport{Config: path, Created: created, Changed: file.Changed(), Name: cfg.Name, ServerURL: cfg.ServerURL, Warnings: append([]string{}, warnings...)}
	if flags.force && !created {
		if err := setAside(path); err != nil {
			return nil, err
		}
		report.Created, report.Changed = true, true
	}
	if err := file.Save(); err != nil {
		if report.Created && !created {
			err = errors.Join(err, os.Rename(path+".previous", path)) // an old file is better than none
		}
		return nil, err
	}
	if who.report.State != "" {
		report.TLS = &who.report
	}
	report.Warnings = append(report.Warnings, who.warnings...)
	env.look(cfg, flags.insecure, server, report)
	report.Warnings = append(report.Warnings, tokenWarnings(cfg, server, token)...)
	report.Next = append(who.next, report.Next...)
	return report, nil
}

// setAside keeps the file at path as path.previous. One that is there already stays
// too, with a number: it may hold the only token that the server takes.
func setAside(path string) error {
	previous := path + ".previous"
	for n := 1; base.Exists(previous); n++ {
		older := fmt.Sprintf("%s.previous.%d", path, n)
		if base.Exists(older) {
			continue
		}
		if err := os.Rename(previous, older); err != nil {
			return err
		}
	}
	return os.Rename(path, previous)
}

// path returns where agent.yaml is, or will be.
func (env *environment) path() (string, error) {
	if env.configPath != "" {
		return filepath.Abs(env.configPath)
	}
	home, err := config.Home(env.getenv)
	return filepath.Join(home, "agent.yaml"), err
}

// openForInit returns the file to change: the one at path, or a new one. created
// says that there was none.
func openForInit(path string, force bool) (file *config.File, created bool, err error) {
	_, statErr := os.Lstat(path)
	created = errors.Is(statErr, fs.ErrNotExist)
	if force || created {
		return config.New(path), created, nil
	}
	file, err = config.Open(path)
	return file, false, err
}

// variables adds to given what environment variables say about the settings that
// init has flags for, so that an agent that is started without them knows it too.
// It returns the variables that it took, by key.
func (env *environment) variables(given map[string]string) map[string]string {
	taken := map[string]string{}
	for _, key := range config.Keys() {
		if _, ok := given[key.Name]; ok || flagOf(key.Name) == "" {
			continue
		}
		if name, value := key.Variable(env.getenv); value != "" {
			given[key.Name] = value
			taken[key.Name] = name
		}
	}
	return taken
}

// flagOf returns the flag of init that sets the key, or an empty text.
func flagOf(key string) string {
	for flag, k := range initKeys {
		if k == key {
			return "--" + flag
		}
	}
	return ""
}

// fill sets what was given in the file, and in a new one what the Python agent's
// init always writes too. variables are those that values come from, by key.
func fill(file *config.File, given, variables map[string]string, created bool) error {
	if name, ok := given["name"]; ok && strings.TrimSpace(name) == "" {
		return usageError("kitt-agent init --name gpu-1", "--name is empty; leave it out for the host name")
	} else if !ok && !file.Has("name") {
		host, err := os.Hostname()
		if err != nil {
			return usageError("kitt-agent init --name gpu-1", "the machine has no host name: %s", err)
		}
		given["name"] = host
	}
	if created && given["port"] == "" {
		given["port"] = "8090"
	}
	var faults []error
	for _, key := range config.Keys() { // in their order, so that a new file reads well
		value, ok := given[key.Name]
		if !ok {
			continue
		}
		err := file.Set(key.Name, value)
		if fault, ok := errors.AsType[*config.Error](err); ok {
			fault.File, fault.Key = cmp.Or(variables[key.Name], flagOf(key.Name)), "" // where the value came from
		}
		faults = append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		return usageError("kitt-agent init --help", "%s", err)
	}
	return nil
}

// readToken puts the token into given that --token-file names.
func (env *environment) readToken(given map[string]string, flags initFlags) error {
	value, inFlag := given["token"]
	if inFlag && strings.TrimSpace(value) == "" {
		// As from a variable that is not set. The server would go on asking for
		// the token that this removes.
		return usageError("kitt-agent init --token-file token", "--token is empty; leave it out to keep the token that the agent has")
	}
	if inFlag && (flags.newToken || flags.tokenFile != "") || flags.newToken && flags.tokenFile != "" {
		return usageError("kitt-agent init --token-file token", "--token, --token-file and --new-token exclude each other")
	}
	if flags.tokenFile == "" {
		return nil
	}
	in := env.stdin
	if flags.tokenFile != "-" {
		f, err := os.Open(flags.tokenFile)
		if err != nil {
			return fmt.Errorf("--token-file: %w", err)
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxTokenFile))
	if err != nil {
		return fmt.Errorf("--token-file: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" {
		return fmt.Errorf("--token-file: %s holds no token", flags.tokenFile)
	}
	given["token"] = token
	return nil
}

// absolute makes the paths of files absolute, and checks that they are there.
func absolute(given map[string]string) error {
	for _, key := range []string{"tls.cert", "tls.key", "tls.ca"} {
		path, ok := given[key]
		if !ok || path == "" {
			continue
		}
		path, err := filepath.Abs(config.Expand(path))
		if err != nil {
			return err
		}
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("--%s: %w", strings.TrimPrefix(key, "tls."), err)
		}
		given[key] = path
	}
	return nil
}

// askServer asks for the server's address, if there is somebody to ask.
func (env *environment) askServer() (string, error) {
	const example = "kitt-agent init --server https://server:8080"
	if !logging.IsTerminal(env.stdin) {
		return "", usageError(example, "--server is missing")
	}
	fmt.Fprint(env.stderr, "Address of the KITT server, such as https://server:8080: ")
	line, err := bufio.NewReader(io.LimitReader(env.stdin, maxTokenFile)).ReadString('\n')
	if line = strings.TrimSpace(line); line != "" {
		return line, nil
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return "", usageError(example, "--server is missing")
}

// look adds to the report what the server says, what is to be warned about, and
// what to do next.
func (env *environment) look(cfg *config.Config, insecure bool, server serverView, report *initReport) {
	if insecure {
		report.Warnings = append(report.Warnings, "--insecure: the server's certificate was not verified, so anybody may have answered")
	}
	if err := server.healthErr; err != nil {
		report.ServerError = err.Error()
		report.Warnings = append(report.Warnings, "the server was not reached; the settings are in place all the same: "+err.Error())
	} else {
		report.Reachable = true
	}
	report.Next = []string{"kitt-agent start"}
	if env.configPath != "" {
		report.Next = []string{"kitt-agent start --config " + report.Config}
	}
}

// printInit tells a person what was done.
func (env *environment) printInit(r *initReport) error {
	for _, w := range r.Warnings {
		env.say("kitt-agent: warning: %s", w)
	}
	did := "unchanged"
	switch {
	case r.Created:
		did = "written"
	case r.Changed:
		did = "changed"
	}
	certificate := ""
	if r.TLS != nil && r.TLS.Certificate != nil {
		certificate = fmt.Sprintf("certificate %s: %s, %s\n", r.TLS.State, r.TLS.Certificate.Subject, lasts(r.TLS.Certificate))
	} else if r.TLS != nil && r.TLS.Request != "" {
		certificate = "certificate requested: " + r.TLS.Request + " waits for its signature; until then the agent shows none\n"
	}
	server := r.ServerURL
	if r.Reachable {
		server += ", which answers"
	}
	_, err := fmt.Fprintf(env.stdout, "%s %s: agent %s of %s\n%s\nNext:\n  %s\n", r.Config, did, quote(r.Name), server, certificate, strings.Join(r.Next, "\n  "))
	return err
}
