// Package kittapi is the client of a KITT server.
//
// A [Client] is an [agent.Server], through which an agent registers and beats,
// an [reporter.Reporter] with an [reporter.Checker]'s rules about result data, and an
// [reporter.Inquirer]. It also has the few calls that a command line needs. It
// neither retries nor keeps an order: it makes one request a call and says
// plainly what became of it, and the agent decides.
//
// # What counts as the server's word
//
// Between an agent and its server stand proxies, load balancers and portals that
// answer in the server's place. Only JSON of the API's own shape speaks for the
// server; everything else is an outage, after which a request may be made again:
//
//	answer                                error
//	2xx, with the fields of this call     none
//	400, 403, 404 with {"error": text}    *reporter.RejectedError
//	404 "Agent not found" to a heartbeat  heartbeat.ErrUnknownAgent
//	401                                   an outage that matches ErrUnauthorized
//	500                                   an outage that matches reporter.ErrServerFailed
//	any of these with Retry-After         an outage in an *reporter.RetryAfterError
//	HTML, redirects, cut or huge answers  an outage
//
// # Two tokens
//
// A KITT server that was started with a token of its own takes logs and statuses
// only with that one, registrations, heartbeats and results only with the
// agent's. Config has room for both. See [Config.ServerToken].
//
// # Results
//
// Result data of the wrong shape stops a KITT server for everybody, so
// [CleanResult] mends it before anything is sent.
package kittapi
