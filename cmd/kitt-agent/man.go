package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"
)

// newManCommand returns `kitt-agent man`, by which packages get their manual
// pages.
func newManCommand(*environment) *cobra.Command {
	return &cobra.Command{
		Use:   "man <directory>",
		Short: "Write the manual pages: one for each command, and agent.yaml(5)",
		Long: `Write the manual pages into man1 and man5 below the directory: one for each
command, and agent.yaml(5).`,
		Example: "  kitt-agent man /usr/local/share/man",
		Hidden:  true,
		Args:    exactly(1, "the directory"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := writeManPages(cmd.Root(), args[0]); err != nil {
				return fmt.Errorf("manual pages: %w", err)
			}
			return nil
		},
	}
}

// writeManPages writes the pages of root and its commands, and agent.yaml(5). It
// changes the texts of root. The date is that of SOURCE_DATE_EPOCH, if it is set.
func writeManPages(root *cobra.Command, dir string) error {
	commands, formats := filepath.Join(dir, "man1"), filepath.Join(dir, "man5")
	if err := errors.Join(os.MkdirAll(commands, 0o755), os.MkdirAll(formats, 0o755)); err != nil {
		return err
	}
	page, err := settingsPage()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(formats, "agent.yaml.5"), page, 0o644); err != nil {
		return err
	}
	root.DisableAutoGenTag = true
	escapeCommands(root)
	return writeCommandPages(root, commands)
}

// writeCommandPages writes the pages of cmd and of its commands that help lists.
func writeCommandPages(cmd *cobra.Command, dir string) error {
	var page bytes.Buffer
	if err := doc.GenMan(cmd, &doc.GenManHeader{Section: "1", Source: manSource(), Manual: manTitle}, &page); err != nil {
		return err
	}
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".1"
	if err := os.WriteFile(filepath.Join(dir, name), indentTerms(page.Bytes()), 0o644); err != nil {
		return err
	}
	for _, child := range cmd.Commands() {
		if child.IsAvailableCommand() {
			if err := writeCommandPages(child, dir); err != nil {
				return err
			}
		}
	}
	return nil
}

var (
	term   = regexp.MustCompile(`(?m)^(?:\.PP\n)?(\\fB.*)\n\t`)
	toggle = regexp.MustCompile(`(?m)^(\\fB-.*\\fP)\[=false\]$`)
)

// indentTerms returns a page in which a term, such as a flag, stands above its
// indented meaning; cobra has a tab there, which man shows as blanks.
func indentTerms(page []byte) []byte {
	page = term.ReplaceAll(page, []byte(".TP\n$1\n"))
	return toggle.ReplaceAll(page, []byte("$1"))
}

const manTitle = "kitt-agent manual"

func manSource() string { return "kitt-agent " + thisBuild().Version }

// escapeCommands turns the texts of cmd and its children, which are plain, into
// Markdown, as which cobra reads them.
func escapeCommands(cmd *cobra.Command) {
	name, rest, found := strings.Cut(cmd.Use, " ")
	if found {
		cmd.Use = name + " " + markdown(rest)
	}
	cmd.Short, cmd.Long = markdown(cmd.Short), markdownText(cmd.Long)
	escape := func(f *pflag.Flag) {
		// The value's name stays in backquotes, which make it bold.
		parts := strings.Split(f.Usage, "`")
		for i := 0; i < len(parts); i += 2 {
			parts[i] = markdown(parts[i])
		}
		f.Usage = strings.Join(parts, "`")
	}
	cmd.LocalNonPersistentFlags().VisitAll(escape)
	cmd.PersistentFlags().VisitAll(escape)
	for _, child := range cmd.Commands() {
		escapeCommands(child)
	}
}

// markdown returns Markdown that reads as the plain text.
func markdown(text string) string {
	var out strings.Builder
	for _, r := range text {
		if strings.ContainsRune("\\`*_{}[]()#+-.!:|&<>~", r) {
			out.WriteByte('\\')
		}
		out.WriteRune(r)
	}
	return out.String()
}

// markdownText does so for a text of several lines, in which indented lines stay
// as they are.
func markdownText(text string) string {
	var out strings.Builder
	verbatim := false
	fence := func(on bool) {
		if on != verbatim {
			out.WriteString("\n```\n")
			verbatim = on
		}
	}
	blank := 0 // lines that belong to a block only if it goes on after them
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if strings.TrimSpace(line) == "" {
			blank++
			continue
		}
		indented := line[0] == ' ' || line[0] == '\t'
		if !indented {
			fence(false)
		}
		out.WriteString(strings.Repeat("\n", blank))
		blank = 0
		fence(indented)
		if !indented {
			line = markdown(line)
		}
		out.WriteString(line + "\n")
	}
	fence(false)
	return strings.TrimRight(out.String(), "\n")
}
