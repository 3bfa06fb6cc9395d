package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/selfupdate"
)

// exitAvailable is the exit code of `update --check` where there is something
// to update to.
const exitAvailable = 100

const updateTimeout = time.Minute // for the new agent to become healthy

var sha256Text = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)

// updateOptions is what the flags of `kitt-agent update` say.
type updateOptions struct {
	from, sha256             string
	check, rollback, restart bool
	force, asJSON            bool
	timeout                  time.Duration
}

// updateReport is what `update --json` prints.
type updateReport struct {
	Installed string `json:"installed"`         // the version from before
	Offered   string `json:"offered,omitempty"` // the package's version
	Available bool   `json:"available"`         // whether it is newer, or nobody can tell
	Signed    bool   `json:"signed"`            // whether its signature was checked
	Updated   bool   `json:"updated"`           // whether another program is in place now
	Restarted bool   `json:"restarted"`         // whether the agent runs it
	Path      string `json:"path,omitempty"`
	Previous  string `json:"previous,omitempty"`
}

// newUpdateCommand returns `kitt-agent update`.
func newUpdateCommand(env *environment) *cobra.Command {
	var u updateOptions
	cmd := &cobra.Command{
		Use:   "update",
		Short: "Replace this program by the newest version",
		Long: `Replace this program by the version that the server offers, or by that of --from.

The package is checked: against the server's SHA-256 or --sha256, against its own
digests, and against update.public_key of agent.yaml where that is set. The new program
runs once before it takes the place of the old one, which is kept next to it as
kitt-agent.previous. Neither an older version nor the same one is installed without
--force.

With --restart the running agent is restarted too, by systemd where systemd runs it.
Benchmarks go on meanwhile. If the new agent is not healthy in time, the old one is put
back and started again.

--check installs nothing. It ends with 0 if there is nothing newer and with 100 if there
is.`,
		Example: `  kitt-agent update --restart
  kitt-agent update --check
  kitt-agent update --from kitt-agent_v1.4.0.tar.gz
  kitt-agent update --from https://host/kitt-agent_v1.4.0.tar.gz --sha256 DIGEST
  kitt-agent update --rollback --restart`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := u.validate(); err != nil {
				return err
			}
			cfg, err := env.config(changed(cmd, map[string]string{"server": "server_url"}))
			if err != nil {
				return err
			}
			if u.check {
				return env.checkUpdate(cmd.Context(), cfg, u)
			}
			return env.update(cmd.Context(), cfg, u)
		},
	}
	flags := cmd.Flags()
	flags.String("server", "", "`URL` of the KITT server (default from agent.yaml)")
	flags.StringVar(&u.from, "from", "", "take the package from this `URL or file` in place of the server")
	flags.StringVar(&u.sha256, "sha256", "", "`digest` that the package must have, 64 hex digits")
	flags.BoolVar(&u.check, "check", false, "only say whether there is a newer version")
	flags.BoolVar(&u.rollback, "rollback", false, "go back to the program from before the last update")
	flags.BoolVar(&u.restart, "restart", false, "restart the running agent, and go back if it isn't healthy then")
	flags.BoolVar(&u.force, "force", false, "install an older version, or the same one again")
	flags.DurationVar(&u.timeout, "timeout", updateTimeout, "how long the restarted agent may take to become healthy")
	flags.BoolVar(&u.asJSON, "json", false, "print one JSON object")
	env.insecureFlag(cmd)
	return cmd
}

func (u updateOptions) validate() error {
	switch {
	case u.rollback && (u.check || u.from != "" || u.sha256 != "" || u.force):
		return usageError("kitt-agent update --rollback", "--rollback goes with --restart and --json only")
	case u.check && (u.restart || u.force):
		return usageError("kitt-agent update --check", "--check installs nothing, so it goes with neither --restart nor --force")
	case u.sha256 != "" && !sha256Text.MatchString(u.sha256):
		return usageError("kitt-agent update --help", "--sha256 takes 64 hex digits")
	case u.timeout <= 0:
		return usageError("kitt-agent update --restart --timeout 2m", "--timeout must be positive")
	}
	return nil
}

// wanted returns what a package must hold.
func wanted(cfg *config.Config) (selfupdate.Wanted, error) {
	var key ed25519.PublicKey
	if cfg.UpdateKey != "" {
		var err error
		if key, err = selfupdate.ParsePublicKey(cfg.UpdateKey); err != nil {
			return selfupdate.Wanted{}, fmt.Errorf("update.public_key: %w", err)
		}
	}
	return selfupdate.Wanted{Platform: selfupdate.Platform{OS: runtime.GOOS, Arch: runtime.GOARCH, NVML: thisBuild().NVML}, Key: key}, nil
}

// checkUpdate says whether there is something to update to.
func (env *environment) checkUpdate(ctx context.Context, cfg *config.Config, u updateOptions) error {
	contents, err := env.unpackTo(ctx, cfg, u, io.Discard)
	if err != nil {
		return err
	}
	report := updateReport{Installed: thisBuild().Version, Offered: contents.Version, Signed: contents.Signed}
	notNewer := selfupdate.Newer(report.Installed, report.Offered)
	report.Available = notNewer == nil
	switch {
	case u.asJSON:
		err = env.printJSON(report)
	case report.Available:
		_, err = fmt.Fprintf(env.stdout, "%s can be updated to %s\n", report.Installed, report.Offered)
	default:
		_, err = fmt.Fprintln(env.stdout, notNewer)
	}
	if err == nil && report.Available {
		return &codedError{code: exitAvailable}
	}
	return err
}

// unpackTo fetches the package and writes its program for this platform to out.
func (env *environment) unpackTo(ctx context.Context, cfg *config.Config, u updateOptions, out io.Writer) (selfupdate.Contents, error) {
	want, err := wanted(cfg)
	if err != nil {
		return selfupdate.Contents{}, err
	}
	file, err := env.fetchPackage(ctx, cfg, u)
	if err != nil {
		return selfupdate.Contents{}, err
	}
	defer file.Close()
	contents, err := selfupdate.Unpack(ctx, file, want, out)
	if err != nil {
		return contents, fmt.Errorf("the package can't be used: %w", err)
	}
	return contents, nil
}

// openInstall returns the program that runs this very command, ready to be
// replaced.
func openInstall(ctx context.Context) (*selfupdate.Install, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the installed program: %w", err)
	}
	if upgrade := selfupdate.Owner(ctx, path); upgrade != "" {
		return nil, fmt.Errorf("%s came with a package of the system's, which would lose track of it; update that package: %s", path, upgrade)
	}
	return selfupdate.Open(path)
}

// update replaces the program, and restarts the agent where that is wanted.
func (env *environment) update(ctx context.Context, cfg *config.Config, u updateOptions) (err error) {
	install, err := openInstall(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, install.Close()) }()
	var running *runningAgent
	if u.restart { // before anything is changed
		if running, err = env.findRunning(ctx, cfg, install); err != nil {
			return err
		}
	}
	report := updateReport{Installed: thisBuild().Version, Path: install.Path()}
	if u.rollback {
		err = rollback(ctx, install, &report)
	} else {
		err = env.install(ctx, cfg, u, install, &report)
	}
	if err != nil {
		return err
	}
	if running != nil && (report.Updated || running.version != report.Offered) {
		undo := func() error { return nil }
		if report.Updated {
			undo = install.Undo
			if u.rollback {
				undo = install.Rollback
			}
		}
		if err := env.restart(ctx, cfg, running, report.Offered, u.timeout, undo); err != nil {
			return err
		}
		report.Restarted = true
	}
	return env.sayUpdated(cfg, u, report, running != nil)
}

// rollback exchanges the program and the one before it.
func rollback(ctx context.Context, install *selfupdate.Install, report *updateReport) error {
	build, err := selfupdate.Probe(ctx, install.Previous())
	if err != nil {
		if _, statErr := os.Stat(install.Previous()); statErr != nil {
			return fmt.Errorf("%w: there is no %s", selfupdate.ErrNoPrevious, install.Previous())
		}
		return err
	}
	if err := install.Rollback(); err != nil {
		return err
	}
	report.Offered, report.Updated, report.Previous = build.Version, true, install.Previous()
	return nil
}

// install puts the package's program in place of the installed one, if it is
// another version.
func (env *environment) install(ctx context.Context, cfg *config.Config, u updateOptions, install *selfupdate.Install, report *updateReport) error {
	var contents selfupdate.Contents
	staged, err := install.Stage(func(f *os.File) (err error) {
		contents, err = env.unpackTo(ctx, cfg, u, f)
		return err
	})
	if err != nil {
		return err
	}
	swapped := false
	defer func() {
		if !swapped {
			_ = install.Discard(staged) // or else the next update does
		}
	}()
	report.Offered, report.Signed = contents.Version, contents.Signed
	notNewer, isOlder := errors.AsType[*selfupdate.NotNewerError](selfupdate.Newer(report.Installed, report.Offered))
	report.Available = notNewer == nil
	if isOlder && !u.force {
		if notNewer.Same {
			return nil
		}
		return fmt.Errorf("%w; to go back to it all the same: kitt-agent update --force", notNewer)
	}
	build, err := selfupdate.Probe(ctx, staged)
	switch {
	case err != nil:
		return err
	case build.Version != contents.Version:
		return fmt.Errorf("the package says that it is %s, and its program that it is %s", contents.Version, build.Version)
	case build.OS != runtime.GOOS || build.Arch != runtime.GOARCH:
		return fmt.Errorf("the package's program is for %s/%s, and this machine is %s/%s", build.OS, build.Arch, runtime.GOOS, runtime.GOARCH)
	}
	if err := install.Swap(staged); err != nil {
		return err
	}
	swapped = true
	report.Updated, report.Previous = true, install.Previous()
	return nil
}

// sayUpdated says what was done, and what is left to do.
func (env *environment) sayUpdated(cfg *config.Config, u updateOptions, report updateReport, running bool) error {
	if u.asJSON {
		return env.printJSON(report)
	}
	var err error
	if report.Updated {
		_, err = fmt.Fprintf(env.stdout, "%s is %s now; %s is kept as %s\n", report.Path, report.Offered, report.Installed, report.Previous)
	} else {
		_, err = fmt.Fprintf(env.stdout, "Version %s is installed already.\n", report.Installed)
	}
	switch {
	case err != nil:
		return err
	case report.Restarted:
		_, err = fmt.Fprintf(env.stdout, "The agent was restarted and runs %s.\n", report.Offered)
	case u.restart && !running:
		env.say("No agent is running, so none was restarted.")
	case report.Updated && isRunning(cfg):
		env.say("The running agent is still the old one; to restart it: kitt-agent update --restart")
	}
	return err
}
