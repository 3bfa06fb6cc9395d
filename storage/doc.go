// Package storage copies models to local disk and keeps them there as long as jobs
// need them.
//
// A [Storage] takes the path or name of a model and returns a [Lease] on a complete
// local copy. It never deletes a leased copy, nor a model that it didn't copy
// itself. A Storage may implement optional interfaces: [Planner], [Configurer] and
// [LeaseKeeper]. [As] finds them through wrappers.
//
// [Local] is the Storage on this machine's disk. It looks for a model in its
// storage directory, then on a share, which it mounts if necessary, then elsewhere
// on the machine. A name that isn't a path is left to the engine. A model on the
// share is copied to the same path below the storage directory.
//
// # Copies
//
// A copy is made in a staging directory next to its final path and appears by one
// rename. Package internal/modelcopy makes it: in parallel, with hashes and
// checksums verified, and resumed after an interruption. All requests for a model
// share one copy. Several storages, also of several processes, may use one
// directory. What they have to agree on is in files below its directory .kitt,
// changed under a lock; the comment on modelDir lists them.
//
// A job doesn't wait until its copy is durable. If the machine loses power before
// that, the copy is compared with its hashes at its next use.
//
// # Slow and hanging disks
//
// A watchdog runs everything that touches the share. It abandons an operation that
// takes too long, and while that hangs it starts no other operation there. No lock
// is held while files are written, fsynced or deleted, so a slow disk delays only
// the job that uses it.
//
// There are four mutexes: of the settings (Local), the copies in progress
// (inflightCopies), the open directories (openDirs) and the watchdog. None is held
// during I/O or together with another one. The lock of a storage directory
// (modelDir.lock) may be taken while a claim on a copy is held, never the other way
// around.
package storage
