package modelcopy

import "sync/atomic"

// Counters count what a copy has done so far. The caller reads them whenever it
// likes, so that a copy never waits for a reader of its progress.
type Counters struct {
	bytesDone, bytesTotal, filesDone, filesTotal atomic.Int64
	bytesRead                                    atomic.Int64 // from the share
	allocated                                    atomic.Int64
}

// A Snapshot is the state of Counters at one moment.
type Snapshot struct {
	BytesDone, BytesTotal int64 // BytesTotal is 0 until the scan has ended
	FilesDone, FilesTotal int
	BytesAllocated        int64 // of BytesTotal, including preallocated space without content
}

// Snapshot returns the current counts.
func (c *Counters) Snapshot() Snapshot {
	return Snapshot{
		BytesDone: c.bytesDone.Load(), BytesTotal: c.bytesTotal.Load(),
		FilesDone: int(c.filesDone.Load()), FilesTotal: int(c.filesTotal.Load()),
		BytesAllocated: c.allocated.Load(),
	}
}

// begin sets the counts for an attempt to copy t.
func (c *Counters) begin(t *tree) {
	c.bytesTotal.Store(t.bytes)
	c.filesTotal.Store(int64(t.files))
	c.bytesDone.Store(0)
	c.filesDone.Store(0)
	c.allocated.Store(0)
}
