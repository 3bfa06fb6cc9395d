package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
)

// fonts are roff's changes of the font.
var fonts = regexp.MustCompile(`\\f[BIRP]`)

// readPage returns the lines of a manual page as its reader sees them, but for
// where they are broken.
func readPage(t *testing.T, path string) string {
	t.Helper()
	if lint, err := exec.LookPath("mandoc"); err == nil {
		out, err := exec.Command(lint, "-T", "lint", "-W", "error", path).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return strings.NewReplacer(`\-`, "-", `\&`, "", `\e`, `\`, `\\`, `\`).Replace(fonts.ReplaceAllString(string(text), ""))
}

// Each command has a page with all that its help has.
func TestManualPages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	got := newMachine(t).run("man", dir)
	require.Equal(t, exitOK, got.code, got.err)
	verbatim := regexp.MustCompile(`(?s)\.EX\n.*?\n\.EE`)
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		cmd.InitDefaultHelpFlag() // without which UseLine has no [flags]
		page := readPage(t, filepath.Join(dir, "man1", strings.ReplaceAll(cmd.CommandPath(), " ", "-")+".1"))
		require.Contains(t, page, ".SH SYNOPSIS\n"+cmd.UseLine()+"\n")
		require.Contains(t, page, " - "+cmd.Short+"\n")
		blocks := strings.Join(verbatim.FindAllString(page, -1), "\n")
		for line := range strings.Lines(cmd.Long + "\n") {
			if strings.HasPrefix(line, " ") {
				require.Contains(t, blocks, "\n"+line, "%s: an indented line", cmd.CommandPath())
			} else {
				require.Contains(t, page, line, cmd.CommandPath())
			}
		}
		require.Contains(t, blocks, "\n"+cmd.Example+"\n")
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				require.Regexp(t, `\.TP\n(-., )?--`+f.Name+`(\[?=.*)?\n`+regexp.QuoteMeta(strings.ReplaceAll(f.Usage, "`", ""))+"\n", page)
			}
		})
		require.NotRegexp(t, `(?m)^\t`, page)
		for _, child := range cmd.Commands() {
			if child.IsAvailableCommand() {
				walk(child)
			}
		}
	}
	walk(newRootCommand(&environment{}))
}

// agent.yaml(5) has every setting.
func TestManualPageOfSettings(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	got := newMachine(t).run("man", dir)
	require.Equal(t, exitOK, got.code, got.err)
	page := readPage(t, filepath.Join(dir, "man5", "agent.yaml.5"))
	for _, key := range config.Keys() {
		_, entry, ok := strings.Cut(page, ".TP\n"+key.Name+"\n")
		require.True(t, ok, key.Name)
		entry, _, _ = strings.Cut(entry, "\n.TP")
		for _, part := range []string{key.Meaning, key.Allowed, key.Default, key.Env} {
			require.Contains(t, entry, part, key.Name)
		}
	}
	require.Contains(t, page, ".EX\n"+settingsExample+"\n.EE")
	m := newMachine(t)
	m.write(settingsExample + "\n")
	require.NotContains(t, m.run("status").err, "agent.yaml:", "the example is valid")
}

// Text that Markdown would take for something else stays as it is.
func TestMarkdownText(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                          "",
		"a <b> *c*":                 `a \<b\> \*c\*`,
		"a:\n\n  b <c>\n\n  d\n\ne": "a\\:\n\n\n```\n  b <c>\n\n  d\n\n```\n\ne",
		"  a":                       "\n```\n  a\n\n```",
	} {
		require.Equal(t, want, markdownText(in))
	}
}
