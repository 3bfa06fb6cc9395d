package supervisor

import (
	"encoding/binary"
	"io"
	"time"
)

// The file index says at which times the output had which sizes. Each entry is
// 16 bytes, little endian: the size in bytes and the time in nanoseconds since
// 1970. Both only grow, so a byte was printed in the second before the first
// entry whose size is beyond it.
const (
	indexEntry = 16
	indexEvery = time.Second
	maxIndex   = 64 << 20 // bytes that a reader accepts: 48 days of seconds
)

// appendIndex appends an entry to b.
func appendIndex(b []byte, size int64, at time.Time) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(size))
	return binary.LittleEndian.AppendUint64(b, uint64(at.UnixNano()))
}

// indexReader finds the times of places in ascending order. A file that is
// broken, or can't be, ends it: places beyond have no time.
type indexReader struct {
	file io.ReaderAt

	at   int64 // in the file, of what is read next
	size int64 // the entry before at
	time time.Time
	over bool
}

// find returns when the byte at offset was printed, and up to where that holds.
// ok is false if the index doesn't tell.
func (r *indexReader) find(offset int64) (at time.Time, upTo int64, ok bool) {
	for !r.over && r.size <= offset {
		var b [indexEntry]byte
		if n, _ := r.file.ReadAt(b[:], r.at); n < indexEntry {
			return time.Time{}, 0, false // there may be more later
		}
		size := int64(binary.LittleEndian.Uint64(b[:]))
		when := time.Unix(0, int64(binary.LittleEndian.Uint64(b[8:])))
		if size <= r.size || when.Before(r.time) || r.at >= maxIndex {
			r.over = true
			break
		}
		r.at, r.size, r.time = r.at+indexEntry, size, when
	}
	return r.time, r.size, !r.over && r.size > offset
}
