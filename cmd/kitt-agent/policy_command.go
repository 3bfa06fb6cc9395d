package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/client"
	"github.com/kirizan/kitt-agent/agent/policy"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
)

// newPolicyCommand returns `kitt-agent policy`.
func newPolicyCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "What the server may make this machine do",
		Long: `What the server may make this machine do: the settings that it may change, and the
directories, shares and images that it may choose. The key policy of agent.yaml changes
these limits.`,
		Example: "  kitt-agent policy show\n  kitt-agent policy check new.yaml",
	}
	group(cmd, newPolicyShowCommand(env), newPolicyCheckCommand(env))
	return cmd
}

// A limit is one line of the policy in force.
type limit struct {
	Key    string   `json:"key"`    // in agent.yaml
	Values []string `json:"values"` // empty for none
	Origin string   `json:"origin"` // a line of agent.yaml, a variable, or default
	Why    string   `json:"why"`
}

func newPolicyShowCommand(env *environment) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show",
		Short:   "Show the policy in force, and where each limit comes from",
		Example: "  kitt-agent policy show\n  kitt-agent policy show --json",
		Args:    exactly(0, ""),
		RunE: func(*cobra.Command, []string) error {
			cfg, err := env.config(nil)
			if err != nil {
				return err
			}
			if asJSON {
				return env.printJSON(limitsOf(cfg))
			}
			return env.printLimits(limitsOf(cfg))
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON list")
	return cmd
}

// limitsOf returns the policy in force.
func limitsOf(cfg *config.Config) []limit {
	p := policyOf(cfg)
	images, imagesKey := p.Images, "policy.images"
	if images == nil {
		images, imagesKey = cfg.AllowedImages, "allowed_images"
	}
	limits := []limit{
		{"policy.server_may_set", p.ServerMaySet, "", "settings that the server may change"},
		{"policy.storage_dirs", p.StorageDirs, "", "where the server may have models kept; below those that end in / only in new or empty directories or the agent's"},
		{"policy.shares", p.Shares, "", "shares that the server may name"},
		{"policy.mount_dirs", p.MountDirs, "", "where the server may have the share, always mounted " + mountOptions},
		{"policy.model_dirs", p.ModelDirs, "", "where models may be used in place, apart from the storage directory and the share"},
		{"policy.profile_keys", p.ProfileKeys, "", "what an engine profile may set in addition to plain settings"},
		{"policy.engines.start", p.StartEngines, "", "engines of this machine that may be started and stopped"},
		{"policy.engines.install", p.InstallEngines, "", "engines that may be installed, from engines.packages"},
		{"policy.engines.listen", one(cfg.Policy.Engines.Listen), "", "where started engines listen"},
		{imagesKey, images, "", "images on this machine that the server may choose; none is pulled for it"},
		{"model_storage_dir", one(p.Machine.StorageDir), "", "always allowed"},
		{"model_share_mount", one(p.Machine.ShareMount), "", "always allowed"},
		{"kitt_image", one(p.Machine.Image), "", "always allowed, with every tag"},
	}
	for i := range limits {
		limits[i].Origin = cfg.Origin(limits[i].Key)
	}
	return limits
}

// mountOptions are those of package storage.
const mountOptions = "ro,nosuid,nodev,noexec"

func one(value string) []string {
	if value == "" {
		return []string{}
	}
	return []string{value}
}

func (env *environment) printLimits(limits []limit) error {
	w := tabwriter.NewWriter(env.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "KEY\tVALUE\tFROM\tMEANING\n")
	for _, l := range limits {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", l.Key, printable(cmp.Or(strings.Join(l.Values, ", "), "none")), printable(l.Origin), l.Why)
	}
	return w.Flush()
}

func newPolicyCheckCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Check an agent.yaml before it is used",
		Long: `Check an agent.yaml before it is used: whether it can be read, and whether its policy
accepts what the server has set and the running agent uses. Exits with 1 if it doesn't.`,
		Example: "  kitt-agent policy check new.yaml",
		Args:    exactly(1, "the settings file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, warnings, err := config.Sources{Path: args[0], Getenv: env.getenv}.Resolve()
			for _, w := range warnings {
				env.say("kitt-agent: warning: %s", w)
			}
			if err == nil && !cfg.Exists() {
				err = fmt.Errorf("there is no %s", printable(args[0]))
			}
			if err != nil {
				return &codedError{exitFailure, err.Error()}
			}
			if err := env.printLimits(limitsOf(cfg)); err != nil {
				return err
			}
			return env.checkInUse(cmd.Context(), policyOf(cfg))
		},
	}
}

// checkInUse checks what the server has set in the agent that runs.
func (env *environment) checkInUse(ctx context.Context, p policy.Policy) error {
	running, err := env.config(nil)
	if err != nil {
		return err
	}
	c, err := newAgentClient(running)
	if err != nil {
		return err
	}
	status, _, err := c.Status(ctx)
	if errors.Is(err, client.ErrNotRunning) {
		env.say("kitt-agent: no agent is running, so what the server has set is not checked")
		return nil
	}
	if err != nil {
		return err
	}
	refused := refusedBy(p, status)
	for _, text := range refused {
		env.say("kitt-agent: refused: %s", text)
	}
	if len(refused) > 0 {
		return &codedError{exitFailure, fmt.Sprintf("%d settings in use would be refused", len(refused))}
	}
	return nil
}

// refusedBy returns which settings of the server's, in force at the agent, p refuses.
func refusedBy(p policy.Policy, status *agent.Status) (refused []string) {
	for name, value := range status.Settings {
		if source := status.SettingSources[name]; value == "" || source != agent.SourceServer && source != agent.SourceRemembered {
			continue
		}
		err := p.CheckSetting(name, value)
		if err == nil && name == policy.ModelStorageDir {
			err = p.CheckStorageDir(value)
		}
		if err != nil {
			refused = append(refused, fmt.Sprintf("%s %s: %s", name, printable(value), printable(err.Error())))
		}
	}
	slices.Sort(refused)
	return refused
}
