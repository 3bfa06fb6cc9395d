// Package kittapi is the client of a KITT server.
//
// A [Client] is an [agent.Server], through which an agent registers and sends
// heartbeats, a [reporter.Reporter], a [reporter.Checker] of result data and a
// [reporter.Inquirer]. It also has the calls that a command line needs. It neither
// retries nor orders requests: each call sends one request and returns its outcome.
//
// # Answers and errors
//
// Proxies, load balancers and login portals between an agent and its server may
// answer instead of the server. Only JSON in the API's form counts as an answer of
// the server. Everything else is an outage, after which the request can be retried:
//
//	answer                                error
//	2xx, with the fields of this call     none
//	400, 403, 404 with {"error": text}    *reporter.RejectedError
//	404 "Agent not found" to a heartbeat  heartbeat.ErrUnknownAgent
//	401                                   an outage that matches ErrUnauthorized
//	500                                   an outage that matches reporter.ErrServerFailed
//	any of these with Retry-After         an outage in an *reporter.RetryAfterError
//	any other 4xx, HTML with 2xx          an outage in a *reporter.BlockedError
//	redirects, incomplete or too large
//	answers, everything else              an outage
//
// # Two tokens
//
// A KITT server that was started with its own token requires that token for logs and
// statuses, and the agent's token for registrations, heartbeats and results. Config
// has both. See [Config.ServerToken].
//
// # Results
//
// Invalid result data can lock a KITT server's database for all agents, so
// [CleanResult] corrects it before it is sent.
package kittapi
