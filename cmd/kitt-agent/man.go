package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// newManCommand returns `kitt-agent man`, by which packages get their manual
// pages.
func newManCommand(*environment) *cobra.Command {
	return &cobra.Command{
		Use:     "man <directory>",
		Short:   "Write the manual pages, one for each command",
		Example: "  kitt-agent man /usr/local/share/man/man1",
		Hidden:  true,
		Args:    exactly(1, "the directory"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true
			// The date is that of SOURCE_DATE_EPOCH, if there is one.
			head := &doc.GenManHeader{Section: "1", Source: "kitt-agent " + thisBuild().Version, Manual: "kitt-agent"}
			if err := doc.GenManTree(root, head, args[0]); err != nil {
				return fmt.Errorf("manual pages: %w", err)
			}
			return nil
		},
	}
}
