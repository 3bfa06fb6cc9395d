// Package modelcopy copies a model, a directory tree or one file, from a share
// into a staging directory, and resumes a copy that was interrupted.
//
// [Copy] does one copy. It scans the model, makes sure that no file is missing, asks
// its caller for space, copies pieces of files in parallel, makes links, verifies the files, and scans the
// model again: what changed during the copy is copied a second time and then
// rejected. Pieces are hashed (XXH3-128) while they pass through memory. The
// files' hashes are in the [Result], from which the caller writes its manifest.
// Where the file system can share blocks with the share (reflink), nothing is
// read and there is no hash.
//
// # Steps and files
//
// All of a copy is in its staging directory until the caller renames "data":
//
//	STAGE/data      the model: a directory, or a file
//	STAGE/journal   which pieces of which files are complete, as JSON lines
//
// What is there at which moment, and so after a crash:
//
//	scan            nothing yet; the caller has made STAGE
//	stage           the journal; what an earlier run left in data and the model
//	                no longer has is removed
//	reserve         as before; an error here leaves no data from this run
//	directories     directories of data, with mode 0700
//	files           files with their final size but zeros or holes in pieces that
//	                the journal doesn't list; a complete file has its mode and time
//	links           symbolic and hard links, made only now
//	verify, rescan  all of data; a damaged file is removed and its journal entry
//	                invalidated
//	directory times data is complete, and Copy returns
//
// The journal only saves time. After a crash or a power cut it may list pieces
// that never reached the disk, so the next run hashes each listed piece before it
// keeps it. A torn last line is ignored. Neither data nor journal is fsynced: the
// caller decides when a complete copy has to be durable.
//
// # What it trusts
//
// Nothing on the share. Files are opened beneath its top directory (package
// beneath), links that leave the share are errors, sizes and counts are bounded.
// In the staging directory, what is not a plain file or directory of this package
// is removed before anything is written through it.
//
// # Hanging file systems
//
// Each goroutine that touches the share owns an [OpTimer], which it starts before
// an operation and stops after it. The caller watches the timers and abandons the
// copy if an operation hangs; Copy then ends when that operation returns, and
// writes nothing more.
package modelcopy
