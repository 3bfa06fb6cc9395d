// Package results reads what an agent keeps of its benchmarks: what was measured, on
// which machine and with what, and whether the machine was fit for it.
//
// A [Store] lists the runs in an agent's directory and loads one with all its figures
// as a [Run]. No agent need run, and one may. Runs of other machines come from files
// that [Store.Export] wrote there and [Store.Import] reads here.
//
//	agent/results           runs on disk, and files with runs
//	agent/results/compare   two sets of runs, and how much a machine's results vary
//	agent/results/baseline  runs that new ones are held against, and noise floors, on disk
//	agent/results/chart     a run as SVG and as sparklines
//
// What a run measured comes from the report that the agent made of metrics.json
// (result.json), and the machine's state from integrity.json in the job's directory.
// The benchmark can write neither. A file of the latter's name that lies only among
// the benchmark's own results proves nothing and is not used. A run without a usable
// integrity.json is not judged. Whatever cannot be read is in [Summary.Problems]; one
// broken run hides no other.
//
// The package is below agent because the format of a job's directory is the agent's own
// and its parts are internal there. Package agent does not import it.
package results
