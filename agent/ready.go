package agent

import "net/http"

// readiness is whether the agent can take work from its server.
type readiness struct {
	status string // ready, or in one word why not
	reason string // why not, in a sentence; empty if it is ready
	detail string // what the server or the error said, for trusted callers; may be empty
}

// String returns why the agent is not ready, and nothing if it is.
func (r readiness) String() string {
	if r.detail == "" {
		return r.reason
	}
	return r.reason + ": " + r.detail
}

// readiness returns whether the agent can take work from its server: it takes
// commands, its loops move on, the server has accepted it, and has not refused it
// since. A server that is away after that doesn't make an agent unready: it runs
// what it has, and keeps its reports.
func (a *Agent) readiness() readiness {
	if since, _ := a.uptime(); since.IsZero() {
		return readiness{status: "stopped", reason: "the agent was not started"}
	}
	if !a.registry.isAccepting() {
		return readiness{status: "stopping", reason: "the agent is stopping and takes no commands"}
	}
	if err := a.Alive(); err != nil {
		return readiness{status: "stuck", reason: "the agent is stuck", detail: err.Error()}
	}
	beat := a.beats.State()
	switch two := a.duplicates.two(); {
	case two != "":
		return readiness{status: "duplicate", reason: "another agent uses this agent's name", detail: two}
	case beat.Refusal != "":
		return readiness{status: "refused", reason: "the server refuses this agent", detail: beat.Refusal}
	case !beat.Registered && beat.LastError != "":
		return readiness{status: "unregistered", reason: "the server was never reached", detail: beat.LastError}
	case !beat.Registered:
		return readiness{status: "unregistered", reason: "the agent has not registered with the server yet"}
	}
	return readiness{status: "ready"}
}

// getReady answers whether the agent can take work. Its loops may work while it
// can't, which is what /healthz is about.
func (a *api) getReady(w http.ResponseWriter, r *http.Request) {
	ready := a.readiness()
	switch {
	case ready.reason == "":
		answer(w, http.StatusOK, map[string]any{"status": ready.status})
	case a.trusts(r):
		answer(w, http.StatusServiceUnavailable, map[string]any{"status": ready.status, "error": ready.String()})
	default:
		answer(w, http.StatusServiceUnavailable, map[string]any{"status": ready.status, "error": ready.reason})
	}
}
