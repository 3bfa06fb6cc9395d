// Package gpusets gives jobs GPUs of their own: sets that no two jobs share.
//
// The owner lists the sets, or says how many GPUs a job gets. An [Allocator] then gives
// each job one set for as long as it holds a slot of the queue. Whole GPUs and MIG
// instances are devices alike, named by UUID; nothing here makes or removes an instance.
//
//	gpusets.go    the settings
//	devices.go    the devices of a machine, and what a set of them is close to
//	choose.go     which free devices are closest to each other
//	allocator.go  who holds what
//
// An Allocator is memory only. A set is in its job's record before the job starts
// anything, and the next start tells the Allocator of it with Hold. A job without a set
// in its record, which an agent without sets began, counts as a holder of the whole
// machine.
package gpusets
