package fleet

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// The buckets of latencies: each power of two of microseconds has subBuckets buckets,
// so that a quantile is at most an eighth too high.
const (
	subBits    = 3
	subBuckets = 1 << subBits
	buckets    = 40 * subBuckets
)

// latencies is a histogram of the durations of requests. Its zero value is ready, its
// methods are safe for concurrent use, and its size is fixed.
type latencies struct {
	counts [buckets]atomic.Int64
	most   atomic.Int64 // nanoseconds
}

// add counts one request.
func (l *latencies) add(d time.Duration) {
	l.counts[bucket(d)].Add(1)
	for {
		most := l.most.Load()
		if int64(d) <= most || l.most.CompareAndSwap(most, int64(d)) {
			return
		}
	}
}

// bucket returns the index of the bucket for d.
func bucket(d time.Duration) int {
	us := uint64(max(d.Microseconds(), 0))
	if us < subBuckets {
		return int(us)
	}
	exp := bits.Len64(us) - 1 - subBits
	return min(exp*subBuckets+int(us>>exp), buckets-1)
}

// limit returns the longest time that bucket i counts, to the microsecond.
func limit(i int) time.Duration {
	if i < 2*subBuckets {
		return time.Duration(i) * time.Microsecond
	}
	exp := i/subBuckets - 1
	return time.Duration(uint64(i%subBuckets+subBuckets+1)<<exp-1) * time.Microsecond
}

// quantile returns the duration that the share q of all requests did not exceed, or 0
// if there were none.
func (l *latencies) quantile(q float64) time.Duration {
	var total int64
	for i := range l.counts {
		total += l.counts[i].Load()
	}
	if total == 0 {
		return 0
	}
	rank := int64(q * float64(total-1))
	for i := range l.counts {
		if rank -= l.counts[i].Load(); rank < 0 {
			return min(limit(i), time.Duration(l.most.Load()))
		}
	}
	return time.Duration(l.most.Load())
}
