// Package fleet runs virtual agents: real agents of package agent, hundreds or
// thousands in one process, whose machines are made up and whose benchmarks are
// simulated. Load tests and end-to-end tests of KITT servers run on it.
//
// A [Fleet] is made of [Group]s of agents that are alike. Each agent registers
// under its own name, beats in its own rhythm, takes its jobs, keeps them in a
// directory of its own and reports them, exactly as an agent on a GPU machine
// does. They share what costs: one [Server], which for a KITT server is one
// kittapi.Client with its one transport, and at most Config.MaxInFlight requests
// at a time.
//
// Agents start one after the other over Config.Ramp, so that a fleet of any size
// meets its server with a steady row of requests, and their heartbeats stay
// spread as they began.
//
// [Fleet.Stats] tells at any time how the fleet fares. [Fleet.Check] holds the
// log of every job on disk against what the server has of it, line by line.
package fleet
