// Package kittapitest is a KITT control plane in process, as net/http/httptest
// is a web server: for tests of agents, of programs that embed one, and of
// harnesses. It imports no testing package, so that programs may run it too.
//
// [NewServer] starts one, [New] gives a plain [http.Handler].
// Agents register and beat over real HTTP; what they said is found in
// [Server.Agents], [Server.Tests], [Server.Lines] and [Server.Results], what
// they are to do is queued with [Server.Launch], and [Server.WaitForStatus]
// waits for the outcome. [Server.SetFault] and [Server.SetDown] make it
// misbehave.
//
// [Server.AddTestAgent] makes one of the server's own virtual agents, whose tests
// the server plays by itself, at once or with the delays of a real run.
//
// It answers as KITT 1.7.0 does, to the letter of its error texts, the two forms
// of its times and its habit of closing every connection; recorded exchanges of
// the real server are replayed against it by its own tests. Four things differ:
//
//   - A request that would leave the real server's database locked is answered
//     with the same 500, noted in [Server.Breaches], and does no harm.
//   - The format of a model is never checked at a launch.
//   - Pages for people, engine profiles, the bot's and monitoring addresses are
//     missing. Of the pages' forms there is POST /agents/create-test, which makes
//     a test agent.
//   - A test agent's log and result are those of package runner/simulated, which
//     are longer than the ten lines and the few figures that the real server
//     makes up, and it is played no further when somebody ends its test.
package kittapitest
