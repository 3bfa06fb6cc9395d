// Package integrity says whether a machine was fit to be measured while a
// benchmark ran on it.
//
// A [Source] reads the machine: its [State] before and after the run, and a
// [Sample] each second. [Machine] is the Source for Linux. It reads /proc and /sys
// itself, and the GPUs through the interfaces of package hwdetect. Package
// integritytest has a fake.
//
// The counters of two States are exact, whatever happens in between. Samples are
// for charts and for what has no counter. They are appended to a [SampleFile], which
// a restarted program continues. A value that cannot be read is nil and is named in
// a [Gap]. It is never replaced by another one.
//
// [Decide] asks its judges about the [Evidence]: both States, the samples' [Summary]
// and the processes of others on the GPUs. A [Rule] is a [Judge] whose limits are
// data; [DefaultRules] are ours, each with the reason for its limit. A figure that is
// unknown is neither good nor bad, and the [Verdict] names it. The worst reason
// decides. A share is one of the time in which a GPU can have been busy, so that lost
// samples never make it too large.
//
// A [Report] is what a file says about one run. A [Recorder] makes it: it writes the
// Start before the run, takes samples in a goroutine of its own during it, also after a
// restart of the program, and judges the run when it has ended. Each call to the Source
// has a limit. One that does not return is a Gap, and is not waited for.
//
// The caller keeps the files where the benchmark cannot write, and [Publish] copies them
// to its results afterwards.
//
// The package lies below hwdetect because a low-level package may import only its
// own tree. It imports neither NVML nor a job's types: the caller says where files
// lie, which processes are its own and when a run begins and ends.
package integrity
