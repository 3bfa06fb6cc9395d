package storage

import (
	"context"
	"errors"
	"math/bits"
	"path"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/zeebo/xxh3"
)

const (
	maxSpan = 64 << 20 // bytes that one worker copies in a row

	// localStreams is how many parts of large files are copied at once from a
	// local disk, at least; there is one for every two processors beyond that. On
	// ext4 with two processors four files of 1 GiB, not in the page cache, took 4.9
	// s with 2, 4.3 s with 3 and 4.2 s with 4, one of 4 GiB 7.1 s, 5.0 s and 5.5 s.
	localStreams = 4

	// remoteHands is how many small files are copied at once from a network for
	// each part of a large one: most of the time they wait for an answer.
	remoteHands = 4
	maxHands    = 64

	spanFiles = 16 // small files that one worker copies in a row
)

// A span is what a worker copies in a row: some pieces of one large file, or
// small files of one directory, of one piece or none each.
type span struct {
	files    []*copyFile
	from, to int // pieces of each file
}

// hands is how many operations a copy with so many workers has under way at
// once, at most.
func hands(workers int) int { return min(workers*remoteHands, maxHands) }

// streams is how many parts of large files are copied at once.
func (c *copying) streams() int {
	if c.remote {
		return c.workers
	}
	return min(max(localStreams, runtime.NumCPU()/2), c.workers)
}

// copyFiles copies all files. A network's latency is hidden by many requests at
// once, so there large and small files are copied beside each other. A local
// disk wants few long streams, and many hands only for small files.
func (c *copying) copyFiles(ctx context.Context, pulses []*pulse) error {
	large, small := c.spans()
	workers := make(map[*pulse]*worker, len(pulses))
	for _, p := range pulses {
		workers[p] = &worker{c: c, pulse: p, hasher: xxh3.New()}
	}
	each := func(ctx context.Context, pulses []*pulse, spans []span) error {
		return parallel(ctx, pulses, len(spans), func(p *pulse, i int) error { return workers[p].copySpan(ctx, spans[i]) })
	}
	streams := min(c.streams(), len(pulses))
	var err error
	switch {
	case len(large) == 0:
		err = each(ctx, pulses, small)
	case c.remote && len(pulses) > streams:
		both, cancel := context.WithCancelCause(ctx)
		var lanes sync.WaitGroup
		lane := func(pulses []*pulse, spans []span) {
			lanes.Go(func() {
				if err := each(both, pulses, spans); err != nil {
					cancel(err)
				}
			})
		}
		lane(pulses[:streams], large)
		lane(pulses[streams:], small)
		lanes.Wait()
		err = context.Cause(both)
		cancel(nil)
	default:
		if err = each(ctx, pulses[:streams], large); err == nil {
			err = each(ctx, pulses, small)
		}
	}
	for _, w := range workers {
		err = errors.Join(err, w.leaveFile(), w.leaveFolders())
	}
	return firstOf(err)
}

// spans cuts the files into what the workers take, in its order: the largest
// files first, so that none of them is left for one worker at the end, and small
// files by directory. Neighbours are of different files and directories where
// that can be, as only one writer at a time is let into either.
func (c *copying) spans() (large, small []span) {
	var big [][]span
	count := 0
	byDir := map[string]int{}
	var dirs [][]*copyFile
	for _, f := range c.files {
		n := len(f.hashes)
		if !f.large() {
			dir := path.Dir(c.srcOf(f.entry))
			at, ok := byDir[dir]
			if !ok {
				at = len(dirs)
				byDir[dir] = at
				dirs = append(dirs, nil)
			}
			dirs[at] = append(dirs[at], f)
			count++
			continue
		}
		step := int(min(max(int64(n/(2*c.streams())), 1), max(maxSpan/c.journal.piece, 1)))
		var parts []span
		for from := 0; from < n; from += step {
			parts = append(parts, span{[]*copyFile{f}, from, min(from+step, n)})
		}
		big = append(big, parts)
	}
	slices.SortStableFunc(big, func(a, b []span) int {
		// Sizes of one magnitude count as one, so that neighbours stay so.
		return magnitude(b[0].files[0].size) - magnitude(a[0].files[0].size)
	})
	run := min(max(count/(4*hands(c.workers)), 1), spanFiles)
	tiny := make([][]span, len(dirs))
	for i, files := range dirs {
		for part := range slices.Chunk(files, run) {
			tiny[i] = append(tiny[i], span{files: part, to: 1})
		}
	}
	return interleave(big), interleave(tiny)
}

// interleave takes the first of each list, then the second of each, and so on.
func interleave(lists [][]span) (all []span) {
	for len(lists) > 0 {
		left := lists[:0]
		for _, list := range lists {
			all = append(all, list[0])
			if len(list) > 1 {
				left = append(left, list[1:])
			}
		}
		lists = left
	}
	return all
}

// magnitude is the same for sizes between two powers of two, the upper included.
func magnitude(size int64) int { return bits.Len64(uint64(max(size, 1) - 1)) }

// parallel calls f for 0 to n-1 from as many goroutines as there are pulses. It
// returns the first error, after all of them have ended.
func parallel(ctx context.Context, pulses []*pulse, n int, f func(p *pulse, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var workers sync.WaitGroup
	for _, p := range pulses[:min(n, len(pulses))] {
		workers.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := f(p, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	workers.Wait()
	return context.Cause(ctx)
}
