package systemd

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// A Service is what the unit file of the agent says.
type Service struct {
	Program string   // absolute path of kitt-agent
	Args    []string // of Program
	RunAs   string   // user that the agent runs as; empty in a unit of the user's own systemd
	Home    string   // directory of the agent's files
	Path    []string // directories of PATH
}

// What the agent and what it starts never need, even as root. What mounting,
// sudo, containers and NVIDIA's tools need stays.
const neverNeeded = "CAP_AUDIT_CONTROL CAP_BLOCK_SUSPEND CAP_LINUX_IMMUTABLE CAP_MAC_ADMIN CAP_MAC_OVERRIDE " +
	"CAP_SYS_BOOT CAP_SYS_PACCT CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_WAKE_ALARM"

// File returns the unit file. The error says what systemd could not read.
func (s Service) File() (string, error) {
	for _, path := range append([]string{s.Program, s.Home}, s.Path...) {
		if !filepath.IsAbs(path) {
			return "", fmt.Errorf("%q is no absolute path", path)
		}
	}
	if strings.ContainsAny(s.Program, `"'\`) {
		return "", fmt.Errorf("systemd starts no program with a quotation mark or a backslash in its path: %s", s.Program)
	}
	command := []string{quoteWord(s.Program, false)} // systemd looks for no variables in it
	for _, arg := range s.Args {
		command = append(command, quoteWord(arg, true))
	}
	for _, text := range append(append([]string{s.Program, s.Home, s.RunAs}, s.Path...), s.Args...) {
		if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return "", fmt.Errorf("%q has a control character, which a unit file can't have", text)
		}
	}
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("[Unit]")
	line("Description=KITT benchmark agent")
	line("Documentation=https://github.com/kirizan/kitt-agent")
	if s.RunAs != "" {
		line("# Only an order: the agent starts without network, server, Docker and a right")
		line("# clock, and goes on trying.")
		line("After=network.target remote-fs.target")
	}
	line("# Without the program, as after its removal, nothing is tried again for ever.")
	line("ConditionFileIsExecutable=%s", escapePercent(s.Program))
	line("StartLimitIntervalSec=0")
	line("")
	line("[Service]")
	line("Type=notify")
	line("NotifyAccess=main")
	if s.RunAs != "" {
		line("User=%s", s.RunAs)
	}
	line("ExecStart=%s", strings.Join(command, " "))
	line("Environment=%s", quoteWord("KITT_HOME="+s.Home, false))
	line("Environment=%s", quoteWord("PATH="+strings.Join(s.Path, ":"), false))
	line("# For what agent.yaml refers to as $NAME. It need not exist.")
	line("EnvironmentFile=-%s", escapePercent(filepath.Join(s.Home, "service.env")))
	line("Restart=on-failure")
	line("RestartSec=10s")
	line("WatchdogSec=2min")
	line("TimeoutStartSec=5min")
	line("# The agent asks for more where drain_timeout is longer.")
	line("TimeoutStopSec=2min")
	line("TimeoutAbortSec=30s")
	line("")
	line("# Benchmarks outlive the agent: a stop, a restart and a crash end the agent's own")
	line("# process alone, and so does a benchmark that runs out of memory.")
	line("KillMode=process")
	line("OOMPolicy=continue")
	line("TasksMax=infinity")
	line("# A control group for each local benchmark, so that a cancel ends all of it.")
	line("Delegate=yes")
	if s.RunAs != "" {
		line("")
		line("# Benchmarks inherit what is forbidden here. No mount namespace (ProtectSystem=,")
		line("# PrivateTmp= and the like): Docker would not see the shares that the agent")
		line("# mounts. No NoNewPrivileges=, nor what implies it: mounting goes through sudo.")
		line("CapabilityBoundingSet=~%s", neverNeeded)
	}
	line("")
	line("[Install]")
	if s.RunAs != "" {
		line("WantedBy=multi-user.target")
	} else {
		line("WantedBy=default.target")
	}
	return seal(b.String()), nil
}

// quoteWord returns a word of a unit file, in quotes where it needs them
// (systemd.syntax(7)). In a command line a dollar sign is doubled too.
func quoteWord(word string, command bool) string {
	word = escapePercent(word)
	if command {
		word = strings.ReplaceAll(word, "$", "$$")
	}
	if word != "" && !strings.ContainsAny(word, " \t\"'\\;") {
		return word
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(word) + `"`
}

// escapePercent keeps systemd from taking a percent sign for a specifier.
func escapePercent(text string) string { return strings.ReplaceAll(text, "%", "%%") }

// The first line of a file of ours names the digest of the rest, so that a file
// that somebody has changed is seen.
const (
	sealText = "# Written by kitt-agent service install; systemctl edit adds to it. sha256:"
)

func seal(rest string) string {
	return fmt.Sprintf("%s%x\n%s", sealText, sha256.Sum256([]byte(rest)), rest)
}

var (
	// ErrForeign is what Check returns for a file that isn't ours.
	ErrForeign = errors.New("kitt-agent did not write it")

	// ErrEdited is what Check returns for a file of ours that was changed since.
	ErrEdited = errors.New("it was changed by hand")
)

// Check returns nil if the text of a unit file is one that File returned, in
// this version or another.
func Check(text string) error {
	first, rest, _ := strings.Cut(text, "\n")
	switch {
	case !strings.HasPrefix(first, sealText):
		return ErrForeign
	case seal(rest) != text:
		return ErrEdited
	}
	return nil
}
