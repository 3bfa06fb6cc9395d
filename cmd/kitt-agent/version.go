package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/kirizan/kitt-agent/hwdetect/nvml"
)

// Set by the linker when a release is built.
var (
	version = ""
	commit  = ""
)

// buildInfo says what program this is.
type buildInfo struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
	NVML    bool   `json:"nvml"` // whether it can read GPUs through NVIDIA's library
}

// thisBuild returns what the linker was told, and otherwise what Go noted.
func thisBuild() buildInfo {
	b := buildInfo{Version: version, Commit: commit, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH, NVML: nvml.Available}
	info, ok := debug.ReadBuildInfo()
	if ok && b.Version == "" && info.Main.Version != "(devel)" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && b.Commit == "" {
			b.Commit = s.Value
		}
	}
	if b.Version == "" {
		b.Version = "devel"
	}
	return b
}

// String returns what `kitt-agent version` prints.
func (b buildInfo) String() string {
	text := "kitt-agent " + b.Version
	if b.Commit != "" {
		text += " (" + b.Commit + ")"
	}
	with := "without NVML"
	if b.NVML {
		with = "with NVML"
	}
	return fmt.Sprintf("%s, %s, %s/%s, %s", text, b.Go, b.OS, b.Arch, with)
}

// newVersionCommand returns `kitt-agent version`.
func newVersionCommand(env *environment) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Show which kitt-agent this is",
		Example: "  kitt-agent version\n  kitt-agent version --json",
		Args:    exactly(0, ""),
		RunE: func(*cobra.Command, []string) error {
			b := thisBuild()
			if asJSON {
				return env.printJSON(b)
			}
			_, err := fmt.Fprintln(env.stdout, b)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}
