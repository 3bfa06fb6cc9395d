package agent

import (
	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/runner"
)

// limits returns, in a sentence each, what an agent of this Config cannot promise,
// because its parts lack an optional interface.
func (cfg Config) limits() (limits []string) {
	add := func(ok bool, sentence string) {
		if !ok {
			limits = append(limits, sentence)
		}
	}
	_, resumes := runner.As[runner.Resumer](cfg.Runner)
	add(resumes, "Runner is no Resumer: a benchmark ends with the agent, and its job fails")
	_, cleans := runner.As[runner.Cleaner](cfg.Runner)
	add(cleans, "Runner is no Cleaner: what a stopped benchmark started elsewhere may keep running")
	_, sweeps := runner.As[runner.Sweeper](cfg.Runner)
	add(sweeps, "Runner is no Sweeper: runs without a job are not found")
	if cfg.Reporter == nil {
		return append(limits, "Reporter is missing: results stay on this machine")
	}
	_, inquires := reporter.As[reporter.Inquirer](cfg.Reporter)
	add(inquires, "Reporter is no Inquirer: after a lost answer lines and results may arrive twice, and lost commands are not found")
	_, checks := reporter.As[reporter.Checker](cfg.Reporter)
	add(checks, "Reporter is no Checker: results are sent as the benchmark wrote them")
	return limits
}
