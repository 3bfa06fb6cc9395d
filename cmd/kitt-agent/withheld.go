package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner/process"
)

// ofNoUse are variables of a shell or a service that no benchmark misses.
var ofNoUse = []string{
	"_", "PWD", "OLDPWD", "SHLVL", "TERM", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM",
	"INVOCATION_ID", "SYSTEMD_EXEC_PID", "MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE",
}

// logWithheld logs which variables of environ local benchmarks don't get: at the first
// start, and when there are others than at the start before.
func logWithheld(cfg *config.Config, environ []string, log *slog.Logger) {
	if cfg.Runner != "auto" && cfg.Runner != "process" {
		return
	}
	_, names := process.Environment(environ)
	names = slices.DeleteFunc(names, func(name string) bool {
		_, given := cfg.Env[name]
		return given || name == "" || strings.HasPrefix(name, "KITT_") || slices.Contains(ofNoUse, name)
	})
	slices.Sort(names)
	list := strings.Join(names, "\n")
	file := filepath.Join(cfg.Home, "env-withheld")
	if before, err := os.ReadFile(file); err == nil && string(before) == list {
		return
	}
	if len(names) > 0 {
		log.Info("local benchmarks don't get these variables of the agent's environment; to pass one on, "+
			"write in agent.yaml below env: NAME: $NAME", "variables", names)
	}
	if err := base.WriteFile(file, []byte(list)); err != nil {
		log.Warn("list of variables not written; the next start logs it again", "err", err)
	}
}
