package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// Each command has a page, and man can read it.
func TestManualPages(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "man1")
	got := newMachine(t).run("man", dir)
	require.Equal(t, exitOK, got.code, got.err)
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		page := filepath.Join(dir, strings.ReplaceAll(cmd.CommandPath(), " ", "-")+".1")
		require.FileExists(t, page)
		if lint, err := exec.LookPath("mandoc"); err == nil {
			out, err := exec.Command(lint, "-T", "lint", "-W", "error", page).CombinedOutput()
			require.NoError(t, err, "%s", out)
		}
		for _, child := range cmd.Commands() {
			if child.IsAvailableCommand() {
				walk(child)
			}
		}
	}
	walk(newRootCommand(&environment{}))
}
