package config

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite the table of settings in docs/settings.md")

// The table of settings in the documentation is made of Keys.
func TestSettingsPage(t *testing.T) {
	t.Parallel()
	const path, begin, end = "../../../../docs/settings.md", "<!-- settings -->\n", "<!-- end of settings -->"
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(text), begin)
	require.True(t, ok)
	_, after, ok := strings.Cut(rest, end)
	require.True(t, ok)

	var table strings.Builder
	table.WriteString("| key | variable | meaning | allowed | default |\n| --- | --- | --- | --- | --- |\n")
	for _, k := range Keys() {
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s | %s |\n", k.Name, code(strings.Join(k.Variables(), "`, `")), k.Meaning, k.Allowed, k.Default)
	}
	want := before + begin + table.String() + end + after
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(want), 0o644))
		return
	}
	require.Equal(t, want, string(text), "run: go test ./cmd/kitt-agent/internal/config -run TestSettingsPage -update")
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}
