package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/cpuguy83/go-md2man/v2/md2man"

	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
)

const settingsIntro = `agent.yaml holds the settings of the agent. A setting comes from, in this order: a
flag of the command line, an environment variable, this file, its default.

The file is YAML. A dot in the name of a setting stands for nesting. Durations are
written as 90s, 5m or 12h, and some as 30d too; sizes as 512MiB or 2GiB. A path that
begins with ~/ is below $HOME.

kitt-agent init writes the file. It holds the agent's token, so only its owner should
be able to read it.`

const settingsExample = `name: gpu-1
server_url: https://server:8080
token: 0123456789abcdef
model_share_source: nas:/volume1/models
model_share_mount: /mnt/models
models:
  max_size: 500GiB
env:
  HF_TOKEN: file:/etc/kitt/hf-token`

// settingsPage returns agent.yaml(5), with the settings of [config.Keys].
func settingsPage() ([]byte, error) {
	date, err := manDate()
	if err != nil {
		return nil, err
	}
	var page strings.Builder
	fmt.Fprintf(&page, "%% \"AGENT.YAML\" \"5\" %q %q %q\n", date.Format("Jan 2006"), manSource(), manTitle)
	fmt.Fprintf(&page, "# NAME\nagent.yaml %s settings of kitt%sagent\n\n", `\-`, `\-`)
	fmt.Fprintf(&page, "# SYNOPSIS\n%s\n\n", markdown("~/.kitt/agent.yaml"))
	fmt.Fprintf(&page, "# DESCRIPTION\n%s\n\n# SETTINGS\n", markdownText(settingsIntro))
	for _, key := range config.Keys() {
		fmt.Fprintf(&page, "**%s**\n\t%s\n\n", markdown(key.Name), markdown(describeKey(key)))
	}
	fmt.Fprintf(&page, "# EXAMPLE\n```\n%s\n```\n\n# FILES\n", settingsExample)
	for _, file := range [][2]string{
		{"~/.kitt/agent.yaml", "the settings, unless --config names another file"},
		{"$KITT_HOME", "directory of the agent's files, in place of ~/.kitt"},
	} {
		fmt.Fprintf(&page, "**%s**\n\t%s\n\n", markdown(file[0]), markdown(file[1]))
	}
	page.WriteString("# SEE ALSO\n**kitt-agent(1)**, **kitt-agent-init(1)**\n")
	return indentTerms(md2man.Render([]byte(page.String()))), nil
}

// describeKey returns all that there is to say about a setting.
func describeKey(key config.Key) string {
	text := key.Meaning + ": " + key.Allowed + "."
	if key.Default != "" {
		text += " Default: " + key.Default + "."
	}
	if key.Env != "" {
		text += " Variable: " + strings.Join(key.Variables(), " or ") + "."
	}
	if key.Secret {
		text += " Secret."
	}
	return text
}

// manDate returns the date of the pages: SOURCE_DATE_EPOCH, or today.
func manDate() (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		return time.Now(), nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	return time.Unix(seconds, 0).UTC(), nil
}
