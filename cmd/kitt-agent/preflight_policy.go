package main

import (
	"context"
	"strings"

	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
	"github.com/kirizan/kitt-agent/preflight"
)

// policyCheck warns of a policy that allows the server more than models take. There is
// none where nothing is to be said.
func policyCheck(cfg *config.Config) []preflight.Check {
	wide := policyOf(cfg).Wide()
	if len(wide) == 0 {
		return nil
	}
	return []preflight.Check{preflight.Func{Label: "policy", Do: func(context.Context) preflight.Result {
		return preflight.Result{Status: preflight.Warn, Details: strings.Join(wide, "; "), Fix: "name directories of models alone in agent.yaml"}
	}}}
}
