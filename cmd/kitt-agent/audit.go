package main

import (
	"log/slog"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/policy"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/logging"
)

// openTrail has the agent write the audit trail, and returns what closes it.
func openTrail(cfg *config.Config, to *agent.Config, log *slog.Logger) (closeTrail func()) {
	failed := func(err error) { log.Warn("audit trail not written", "err", err) }
	trail, err := logging.OpenTrail(cfg.AuditFile(), failed)
	if err != nil {
		failed(err)
		return func() {}
	}
	to.Audit = func(e policy.Entry) {
		if e.Who == policy.ByServer {
			e.From = cfg.ServerURL
		}
		trail.Write(e)
	}
	return func() {
		if err := trail.Close(); err != nil {
			failed(err)
		}
	}
}
