// Package kittapitest is a KITT control plane in process, as net/http/httptest is a
// web server. It is for tests of agents, of programs that embed one, and of test
// harnesses. It imports no testing package, so that programs can run it too.
//
// [NewServer] starts one on a network, [NewInMemory] one without a network, and
// [New] returns a plain [http.Handler]. Agents register and send heartbeats over
// HTTP. [Server.Agents], [Server.Tests], [Server.Lines] and [Server.Results] return
// what they reported, [Server.Launch] queues a benchmark and [Server.WaitForStatus]
// waits for its outcome. [Server.SetFault] and [Server.SetDown] simulate failures.
//
// [Server.AddTestAgent] adds one of the server's own virtual agents. The server
// simulates its tests, at once or with the delays of a real run.
//
// The server answers like KITT 1.7.0, including its error texts, its two time
// formats and its habit of closing every connection. Its tests replay recorded
// exchanges of the real server. Five things differ:
//
//   - A request that would leave the real server's database locked gets the same
//     500 and is listed in [Server.Breaches], but has no other effect.
//   - JSON values that no recording has may be converted in another way than by
//     Python, and validation errors may have another text.
//   - The format of a model is never checked at a launch.
//   - HTML pages, engine profiles and the paths of the bot and of monitoring are
//     missing. The only form is POST /agents/create-test, which adds a test agent.
//   - A test agent's log and result are those of package runner/simulated. They are
//     longer than the real server's ten lines and few figures, and the simulation
//     stops when its test is ended.
package kittapitest
