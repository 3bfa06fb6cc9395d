// Package supervisor runs one benchmark in front of every runner, so that the
// benchmark never waits for anybody and its outcome is on disk.
//
// A supervisor is a small process that outlives the agent. It is the entrypoint
// of a job's container, a detached process for a local run, and the script of a
// job on a cluster. The benchmark writes straight to a file that both of its
// streams are: no pipe, no engine, no agent is in the path. The agent reads the
// file at its own pace with a [Follower].
//
// # The run's directory
//
// Everything that agent and supervisor tell each other is in one directory. The
// supervisor writes it, the agent only reads it:
//
//	lock          locked (flock) for as long as the supervisor lives
//	started.json  the claim: who runs the benchmark, see [Claim]. Made
//	              exclusively, so that a benchmark starts at most once; replaced
//	              once the child's PID is known
//	output        what the benchmark prints, both streams
//	index         at which time the output had which size, at most one entry of
//	              16 bytes per second
//	gaps.json     what was removed from the output to save space, see [Gaps]
//	exit.json     how the benchmark ended, see [Exit]; renamed into place, durable
//
// The agent tells the supervisor one thing: up to where it has read. That is a
// shared lock on the rest of output (fcntl F_OFD_SETLK), which needs no write
// and goes with the agent.
//
// # States
//
//	files                     lock   means
//	none                      free   not begun; whoever claims first may
//	none                      held   a supervisor is about to claim
//	started.json              held   it runs
//	started.json              free   the supervisor was killed; see below
//	started.json, exit.json   held   it has ended, what it left is being ended
//	started.json, exit.json   free   it has ended
//
// The order is: lock, claim (durable), open output, start the child, wait,
// write exit.json (durable), end what the child left behind, unlock by exiting.
//
//	killed after        leads to
//	the lock            nothing was begun; it may be started again
//	the claim           lost: never started again, as the child may have run
//	the child's start   lost; with the supervisor as PID 1 the child dies too,
//	                    otherwise the agent finds it by started.json and ends it
//	exit.json           the outcome stands
//
// A second start (an engine that restarts a container, a scheduler that requeues
// a job, a duplicate) finds the claim and exits with [StatusTaken]. After a
// reboot the boot ID in started.json is another one.
//
// A file system without flock is fine: the claim alone decides who runs it.
// Where the lock can't be seen (an engine in a virtual machine), the runner asks
// the engine whether the supervisor lives.
//
// # Other machines
//
// A job on a cluster has its directory on a file system that the agent's machine
// shares. The agent sees no process of it, perhaps no lock, and each file later than
// it was written. With Config.Shared the supervisor therefore also
//
//   - writes alive.json every two seconds, and at last that nothing of the run is left
//   - sends its output to the file system as often, and before exit.json says how
//     long it is, so that the agent knows when it has all of it
//   - ends the benchmark when cancel isn't empty, also if its scheduler is away
//   - kills the benchmark when the grace after SIGTERM is over
//
// # Trust
//
// A container can write anything into its directory, so the reader trusts none
// of it: a [Dir] opens files relative to a directory that it holds, never
// through a link, never blocking, and accepts only regular files with one name
// and a bounded size. What exit.json says is believed about its own job; no
// path, size or ID is taken from it.
//
// # Space
//
// The supervisor keeps room in reserve behind the end of output: a part of what
// was free at the start, so that a disk that somebody else fills doesn't end a
// benchmark. Beyond it, it frees what was already read. At Config.Limit, and on
// a disk without any room left, it frees the oldest output that nobody has read,
// and gaps.json says so first. Positions stay: a freed range is a hole. File
// systems without holes (fallocate(2), FALLOC_FL_PUNCH_HOLE) have no ceiling.
//
// # Versions
//
// Files carry a version. Keys are only added. A reader that meets a later
// version leaves the run alone: see [ErrVersion].
package supervisor
