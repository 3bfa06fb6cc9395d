package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/kirizan/kitt-agent/agent/standard"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
	"github.com/kirizan/kitt-agent/hwdetect"
)

// hardwareTimeout bounds a look at the machine; each probe has a limit of its
// own below it.
const hardwareTimeout = 10 * time.Second

// hardwareReport is what `hardware --json` prints.
type hardwareReport struct {
	*hwdetect.Machine
	Fingerprint string             `json:"fingerprint"`
	Telemetry   hwdetect.Telemetry `json:"telemetry"`
}

// newHardwareCommand returns `kitt-agent hardware`.
func newHardwareCommand(env *environment) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "hardware",
		Short: "Show what the agent knows about this machine",
		Long: `Show what the agent knows about this machine and tells the server: GPUs, driver,
processor, memory, disk, system and fingerprint. What could not be found out is named
with the reason.`,
		Example: "  kitt-agent hardware\n  kitt-agent hardware --json",
		Args:    exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			cfg, err := env.config(nil)
			if err != nil {
				return err
			}
			system, err := standard.NewDetector(hwdetect.Config{ModelDir: modelDir(cfg)})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, system.Close()) }()
			ctx, cancel := context.WithTimeout(cmd.Context(), hardwareTimeout)
			defer cancel()
			machine, err := system.Detect(ctx)
			if err != nil {
				return err
			}
			// A machine without GPUs has no readings, which is no fault.
			telemetry, _ := system.Telemetry(ctx)
			if asJSON {
				return env.printJSON(hardwareReport{machine, machine.Fingerprint(), telemetry})
			}
			return writeHardware(env.stdout, machine, telemetry)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// modelDir returns where models are kept.
func modelDir(cfg *config.Config) string {
	dir := cfg.ModelStorageDir
	if dir == "" {
		dir = "~/.kitt/models"
	}
	return config.Expand(dir)
}
