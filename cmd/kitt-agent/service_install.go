package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/pidfile"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/systemd"
)

// Why systemd should not reload its unit files while a job runs.
const reloadHarm = "a reload of systemd's unit files can take the GPUs away from containers that run"

// serviceInstall is what `service install` was asked for.
type serviceInstall struct {
	ofUser, noStart, print bool
	systemUser             bool
	runAs                  string
	rule                   jobRule
}

// newServiceInstallCommand returns `kitt-agent service install`.
func newServiceInstallCommand(env *environment) *cobra.Command {
	var in serviceInstall
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Install the agent as a service and start it",
		Long: `Install the agent as a service of systemd, have it started at boot, and start it.

The agent runs as you, also when you use sudo, or as --run-as says; its settings
come from that user's agent.yaml, or from KITT_HOME and --config as they are now.
A second install changes only what differs, and restarts the service if need be;
running benchmarks go on.

With --system-user, as root, the agent runs as an account of its own, kitt-agent,
which is made without a password or a shell. sudo lets it mount what the policy of its
agent.yaml allows the server, and nothing else: /etc/sudoers.d/kitt-agent. After a
change of that policy, install again.

Where systemd has to reload its unit files, which can take the GPUs away from
running containers, it does so only while no job runs.`,
		Example: "  kitt-agent service install\n  sudo kitt-agent service install --system-user\n  kitt-agent service install --run-as kitt --config /etc/kitt/agent.yaml\n" +
			"  kitt-agent service install --user\n  kitt-agent service install --print",
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if in.ofUser && in.runAs != "" {
				return usageError("kitt-agent service install --user", "--user and --run-as exclude each other: your own systemd runs everything as you")
			}
			if in.systemUser && (in.ofUser || in.runAs != "") {
				return usageError("sudo kitt-agent service install --system-user", "--system-user, --user and --run-as exclude each other")
			}
			return env.installService(cmd.Context(), in)
		},
	}
	cmd.Flags().BoolVar(&in.ofUser, "user", false, "a service of your own systemd, which needs no root")
	cmd.Flags().StringVar(&in.runAs, "run-as", "", "`user` that the agent runs as (default you)")
	cmd.Flags().BoolVar(&in.systemUser, "system-user", false, "run it as an account of its own, kitt-agent, which is made if need be")
	cmd.Flags().BoolVar(&in.noStart, "no-start", false, "do not start it before the next boot")
	cmd.Flags().BoolVar(&in.print, "print", false, "print the unit file and do nothing")
	in.rule.flags(cmd)
	return cmd
}

func (env *environment) installService(ctx context.Context, in serviceInstall) error {
	account, err := env.serviceAccount(ctx, in)
	if err != nil {
		return err
	}
	service, cfg, err := env.describeService(in, account)
	if err != nil {
		return err
	}
	text, err := service.File()
	if err != nil {
		return err
	}
	if in.print {
		return env.printService(in, cfg, text)
	}
	unit := env.unit(in.ofUser)
	state, err := unit.State(ctx)
	if err != nil {
		return explainSystemd(unit, err)
	}
	if err := env.checkService(service, cfg); err != nil {
		return err
	}
	if in.systemUser {
		if err := env.allowMounts(ctx, cfg); err != nil {
			return err
		}
	}
	if err := env.putService(ctx, unit, state, cfg, text, in); err != nil {
		return explainSystemd(unit, err)
	}
	fmt.Fprintf(env.stdout, "%s is installed and starts at %s: it runs as %s, with its files in %s\n",
		serviceUnit, map[bool]string{false: "boot", true: "login"}[in.ofUser], account.Username, cfg.Home)
	if in.ofUser && !lingers(account.Username) {
		env.say("It ends, and running benchmarks with it, when you log out. To have it run from boot on: sudo loginctl enable-linger %s", account.Username)
	}
	if in.noStart {
		return nil
	}
	if state, err = unit.State(ctx); err != nil {
		return err
	}
	_, err = fmt.Fprintf(env.stdout, "it is running (process %d): %s\n", state.PID, printable(state.Text))
	return err
}

// printService prints what would be installed.
func (env *environment) printService(in serviceInstall, cfg *config.Config, text string) error {
	if in.systemUser {
		rules, err := sudoersText(policyOf(cfg), cfg.ModelShareSource)
		if err != nil {
			return err
		}
		text += "\n# " + sudoersFile + ":\n# " + strings.ReplaceAll(strings.TrimSpace(rules), "\n", "\n# ") + "\n"
	}
	_, err := fmt.Fprint(env.stdout, text)
	return err
}

// serviceAccount returns the user that the agent is to run as.
func (env *environment) serviceAccount(ctx context.Context, in serviceInstall) (*user.User, error) {
	if in.systemUser {
		return env.ensureSystemUser(ctx, in.print)
	}
	if in.runAs != "" {
		account, err := user.Lookup(in.runAs)
		if err != nil {
			return nil, fmt.Errorf("--run-as: %w", err)
		}
		return account, nil
	}
	account, err := user.Current()
	if err != nil {
		return nil, err
	}
	behind := env.getenv("SUDO_USER")
	if account.Uid != "0" || behind == "" || behind == "root" {
		return account, nil
	}
	if in.ofUser {
		return nil, &codedError{exitFailure, "a service of your own is not installed through sudo\ntry: kitt-agent service install --user"}
	}
	return user.Lookup(behind)
}

// describeService returns what the unit file is to say, and the settings that
// the service will find.
func (env *environment) describeService(in serviceInstall, account *user.User) (systemd.Service, *config.Config, error) {
	path := env.configPath
	var err error
	if path != "" {
		if path, err = filepath.Abs(path); err != nil {
			return systemd.Service{}, nil, err
		}
	}
	cfg, warnings, err := env.serviceConfig(path, env.getenv("KITT_HOME"), account.HomeDir)
	if err != nil {
		return systemd.Service{}, nil, err
	}
	for _, w := range warnings {
		env.say("kitt-agent: warning: %s", w)
	}
	for _, key := range config.Keys() {
		if name, value := key.Variable(env.getenv); value != "" {
			env.say("kitt-agent: warning: the service does not see %s, which is set here; put %s into %s", name, key.Name, cfg.Path)
		}
	}
	program, err := os.Executable()
	if err != nil {
		return systemd.Service{}, nil, fmt.Errorf("find the agent's own program: %w", err)
	}
	service := systemd.Service{Program: program, Args: []string{"start"}, Home: cfg.Home, Path: env.servicePath(account)}
	if path != "" {
		service.Args = append(service.Args, "--config", path)
	}
	if !in.ofUser {
		service.RunAs = account.Username
	}
	return service, cfg, nil
}

// servicePath returns the directories in which the service looks for programs:
// the usual ones, and where the local kitt is.
func (env *environment) servicePath(account *user.User) []string {
	usual := []string{filepath.Join(account.HomeDir, ".local", "bin"),
		"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}
	for _, dir := range filepath.SplitList(env.getenv("PATH")) {
		info, err := os.Stat(filepath.Join(dir, "kitt"))
		if err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 && filepath.IsAbs(dir) {
			if dir = filepath.Clean(dir); !slices.Contains(usual, dir) {
				return append([]string{dir}, usual...)
			}
			break
		}
	}
	return usual
}

// checkService refuses what can't work, and warns of what isn't wise.
func (env *environment) checkService(service systemd.Service, cfg *config.Config) error {
	if cfg.ServerURL == "" {
		as := ""
		if service.RunAs == systemUser {
			as = "sudo -u " + systemUser + " -H "
		}
		return &codedError{exitFailure, fmt.Sprintf("no server is configured in %s\ntry: %skitt-agent init --server https://server:8080", cfg.Path, as)}
	}
	if strings.Contains(service.Program, "/go-build") {
		return &codedError{exitFailure, "this program lies in a directory that go removes again\nbuild it first: go install ./cmd/kitt-agent"}
	}
	info, err := os.Stat(service.Program)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if service.RunAs == "root" && ok && (owner.Uid != 0 || info.Mode()&0o022 != 0) {
		env.say("kitt-agent: warning: root will run %s, which others may change; copy it to /usr/local/bin as root", service.Program)
	}
	return nil
}

// putService makes systemd's side what it is to be, and changes nothing that is
// so already.
func (env *environment) putService(ctx context.Context, unit systemd.Unit, before systemd.State, cfg *config.Config, text string, in serviceInstall) error {
	if !in.noStart && !before.Running() {
		if owner, running, err := pidfile.Find(cfg.PIDFile()); err == nil && running {
			return &codedError{exitFailure, fmt.Sprintf("an agent runs already, outside of the service: process %d\n"+
				"stop it with kitt-agent stop, which leaves its benchmark running, or install with --no-start", owner.PID)}
		}
	}
	old, err := unit.ReadFile()
	if err != nil {
		return err
	}
	changed := old != text
	if old != "" && changed && !in.rule.force {
		if err := systemd.Check(old); err != nil {
			path, _ := unit.FilePath()
			return &codedError{exitFailure, fmt.Sprintf("there is %s already, and %s\nlook at it, and replace it with --force; your own lines are better kept with: systemctl edit %s", path, err, serviceUnit)}
		}
	}
	if changed {
		if err := unit.WriteFile(ctx, text); err != nil {
			return err
		}
	}
	state, err := unit.State(ctx)
	if err != nil {
		return err
	}
	if err := env.reload(ctx, unit, cfg, state, in.rule); err != nil {
		return err
	}
	if state.Enabled != "enabled" {
		if err := unit.Enable(ctx); err != nil {
			return err
		}
	}
	switch {
	case in.noStart, !changed && before.Running() && !before.NeedReload:
		return nil
	case before.Running():
		err = unit.Restart(ctx)
	default:
		err = unit.Start(ctx)
	}
	if err != nil {
		return fmt.Errorf("%w\nsystemd goes on trying; see: kitt-agent service logs", err)
	}
	return nil
}

// reload has systemd reload its unit files if it needs to. That of the
// machine waits for jobs to end.
func (env *environment) reload(ctx context.Context, unit systemd.Unit, cfg *config.Config, state systemd.State, rule jobRule) error {
	if state.Installed() && !state.NeedReload {
		return nil
	}
	if !unit.User {
		if err := env.untilIdle(ctx, cfg, rule, "the unit file is written, but systemd does not know of it yet", reloadHarm); err != nil {
			return err
		}
	}
	return unit.Reload(ctx)
}

// lingers reports whether the user's own systemd runs without a login
// (loginctl(1)).
func lingers(name string) bool {
	_, err := os.Stat(filepath.Join("/var/lib/systemd/linger", name))
	return err == nil
}

// newServiceUninstallCommand returns `kitt-agent service uninstall`.
func newServiceUninstallCommand(env *environment) *cobra.Command {
	var ofUser bool
	var rule jobRule
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Stop the service and remove it",
		Long: `Stop the service, and remove its unit. The agent's settings, jobs and models stay.

While a job runs nothing is done, unless --wait or --force says otherwise; with
--force the benchmark goes on, and the next kitt-agent start takes it up.`,
		Example: "  kitt-agent service uninstall\n  kitt-agent service uninstall --wait\n  kitt-agent service uninstall --user",
		Args:    exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			unit := env.unit(ofUser)
			return explainSystemd(unit, env.uninstallService(cmd.Context(), unit, rule))
		},
	}
	cmd.Flags().BoolVar(&ofUser, "user", false, "the service of your own systemd")
	rule.flags(cmd)
	return cmd
}

func (env *environment) uninstallService(ctx context.Context, unit systemd.Unit, rule jobRule) error {
	state, err := unit.State(ctx)
	if err != nil {
		return err
	}
	text, err := unit.ReadFile()
	if err != nil {
		return err
	}
	path, err := unit.FilePath()
	if err != nil {
		return err
	}
	if text == "" && !state.Installed() {
		_, err := fmt.Fprintf(env.stdout, "%s is not installed\n", serviceUnit)
		return err
	}
	if err := systemd.Check(text); errors.Is(err, systemd.ErrForeign) && !rule.force {
		return &codedError{exitFailure, fmt.Sprintf("%s is not ours to remove: %s\nremove it all the same with --force", path, err)}
	}
	cfg, err := env.installedConfig(unit)
	if err != nil && !rule.force {
		return fmt.Errorf("the settings of the service can't be read, so whether a job runs can't be told: %w\nremove it all the same with --force", err)
	}
	if err != nil {
		cfg = &config.Config{Home: systemd.Read(text).Home}
	}
	err = env.untilIdle(ctx, cfg, rule, "nothing was done", "nobody would watch over it any more, and "+reloadHarm)
	if err != nil {
		return err
	}
	if err := unit.Stop(ctx); err != nil && state.Installed() {
		return err
	}
	if state.Enabled == "enabled" {
		if err := unit.Disable(ctx); err != nil {
			return err
		}
	}
	if err := unit.RemoveFile(ctx); err != nil {
		return err
	}
	if state, err = unit.State(ctx); err != nil {
		return err
	}
	if state.Installed() {
		if err := unit.Reload(ctx); err != nil {
			return err
		}
	}
	if state.Active == "failed" {
		if err := unit.Forget(ctx); err != nil {
			return err
		}
	}
	fmt.Fprintf(env.stdout, "%s is stopped and removed\n", serviceUnit)
	if _, err := os.Stat(path + ".d"); err == nil {
		fmt.Fprintf(env.stdout, "what was added to it with systemctl edit is still in %s.d\n", path)
	}
	models := cfg.ModelStorageDir
	if models == "" {
		models = "~/.kitt/models"
	}
	_, err = fmt.Fprintf(env.stdout, "settings, jobs and logs are still in %s, models in %s\n", cfg.Home, models)
	return err
}
