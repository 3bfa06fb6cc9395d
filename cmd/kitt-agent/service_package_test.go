package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/systemd"
)

// The unit of the deb and rpm packages is the one that service install writes, for
// the packages' own user, and waits for settings.
func TestPackagedUnit(t *testing.T) {
	t.Parallel()
	text, err := systemd.Service{
		Program: "/usr/bin/kitt-agent", Args: []string{"start"}, RunAs: "kitt-agent", Home: "/var/lib/kitt-agent/.kitt",
		Path: []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"},
	}.File()
	require.NoError(t, err)
	_, want, _ := strings.Cut(text, "\n") // without the line that says who wrote it
	want = strings.Replace(want, "ConditionFileIsExecutable=", "ConditionPathExists=/var/lib/kitt-agent/.kitt/agent.yaml\nConditionFileIsExecutable=", 1)
	path := filepath.Join("..", "..", "packaging", "kitt-agent.service")
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(want), 0o644))
	}
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, want, string(got))
}
