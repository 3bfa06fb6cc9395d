package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"

	"github.com/kirizan/kitt-agent/agent/policy"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
)

const (
	// systemUser is the account that --system-user makes, and systemUserHome its home.
	systemUser     = "kitt-agent"
	systemUserHome = "/var/lib/kitt-agent"

	// sudoersFile holds what that account may run as root.
	sudoersFile = "/etc/sudoers.d/kitt-agent"

	// accountTimeout is how long each program may take that manages accounts.
	accountTimeout = 30 * time.Second
)

// errNotRoot is what --system-user answers to others.
var errNotRoot = &codedError{exitFailure, "--system-user makes an account and a rule for sudo, which takes root\ntry: sudo kitt-agent service install --system-user"}

// ensureSystemUser returns the account of its own that the agent runs as, which is made
// if it isn't there: without a password or a shell. It is in the group docker if there
// is one, since benchmarks run in containers.
func (env *environment) ensureSystemUser(ctx context.Context, dry bool) (*user.User, error) {
	account, err := user.Lookup(systemUser)
	if _, unknown := errors.AsType[user.UnknownUserError](err); !unknown {
		return account, err
	}
	if dry {
		return &user.User{Username: systemUser, HomeDir: systemUserHome}, nil
	}
	if os.Geteuid() != 0 {
		return nil, errNotRoot
	}
	args := []string{"--system", "--user-group", "--home-dir", systemUserHome, "--create-home", "--shell", "/usr/sbin/nologin"}
	if _, err := user.LookupGroup("docker"); err == nil {
		args = append(args, "--groups", "docker")
		env.say("The account %s is in the group docker: who controls the Docker engine controls this machine", systemUser)
	}
	if err := runAccountTool(ctx, "useradd", append(args, systemUser)...); err != nil {
		return nil, fmt.Errorf("make the account %s: %w", systemUser, err)
	}
	account, err = user.Lookup(systemUser)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(account.HomeDir, 0o700); err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(env.stdout, "made the account %s, with its home in %s\n", systemUser, account.HomeDir)
	return account, err
}

// allowMounts lets the system user mount what the policy allows. The rule appears whole
// or not at all, and only if visudo accepts it: a broken one would stop all of sudo.
func (env *environment) allowMounts(ctx context.Context, cfg *config.Config) error {
	if os.Geteuid() != 0 {
		return errNotRoot
	}
	if _, err := exec.LookPath("visudo"); err != nil {
		env.say("kitt-agent: warning: there is no sudo on this machine, so the agent cannot mount shares; add them to /etc/fstab")
		return nil
	}
	text, err := sudoersText(policyOf(cfg), cfg.ModelShareSource)
	if err != nil {
		return err
	}
	draft, err := os.CreateTemp("", "kitt-agent-sudoers-")
	if err != nil {
		return err
	}
	defer os.Remove(draft.Name())
	_, err = draft.WriteString(text)
	if err := errors.Join(err, draft.Close()); err != nil {
		return err
	}
	if err := runAccountTool(ctx, "visudo", "-c", "-q", "-f", draft.Name()); err != nil {
		return fmt.Errorf("sudo does not accept the rule for mounts, which takes sudo 1.9.10: %w\nmount shares through /etc/fstab instead", err)
	}
	if err := renameio.WriteFile(sudoersFile, []byte(text), 0o440, renameio.IgnoreUmask()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(env.stdout, "%s lets %s mount what the policy allows, and nothing else\n", sudoersFile, systemUser)
	return err
}

// sudoersText returns the content of sudoersFile.
func sudoersText(p policy.Policy, source string) (string, error) {
	var paths []string
	for _, program := range []string{"mount", "mkdir"} {
		path, err := exec.LookPath(program)
		if err != nil {
			return "", err
		}
		if path, err = filepath.Abs(path); err != nil {
			return "", err
		}
		paths = append(paths, path)
	}
	return sudoers(systemUser, paths[0], paths[1], p, source), nil
}

// runAccountTool runs a program that manages accounts. Its error has what it printed.
func runAccountTool(ctx context.Context, name string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, accountTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, printable(string(out)))
	}
	return nil
}
