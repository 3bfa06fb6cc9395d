// Package fleet runs virtual agents for load tests and end-to-end tests of KITT
// servers. Virtual agents are real agents of package agent, with simulated machines
// and benchmarks. One process can run thousands of them.
//
// A [Fleet] consists of [Group]s of similar agents. Each agent registers under its own
// name, sends its own heartbeats, runs its jobs, stores them in its own directory and
// reports them, exactly like an agent on a GPU machine. The agents share one [Server],
// such as a kittapi.Client, and at most Config.MaxInFlight requests at a time.
//
// Agents start one after the other over Config.Ramp, so that the server gets a steady
// rate of requests, and heartbeats stay spread.
//
// [Fleet.Stats] returns the fleet's counters at any time. [Fleet.Check] compares the
// log of every job on disk with the server's, line by line.
package fleet
