package modelcopy

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

	"github.com/kirizan/kitt-agent/storage/internal/iofault"
)

const (
	maxSpan = 64 << 20 // bytes that one worker copies in a row

	// localStreams is the minimum number of parts of large files that are copied in
	// parallel from a local disk; there is one for every two processors beyond that.
	// On ext4 with two processors four files of 1 GiB, not in the page cache, took
	// 4.9 s with 2, 4.3 s with 3 and 4.2 s with 4, one of 4 GiB 7.1 s, 5.0 s and
	// 5.5 s.
	localStreams = 4

	// smallPerStream is how many small files are copied in parallel from a network
	// for each part of a large one. They mostly wait for an answer.
	smallPerStream = 4
	maxParallel    = 64

	spanFiles = 16 // small files that one worker copies in a row
)

// A span is what a worker copies in a row: some pieces of one large file, or
// small files of one directory, of one piece or none each.
type span struct {
	files    []*fileCopy
	from, to int // pieces of each file
}

// MaxParallel returns how many operations a copy with so many workers has in
// progress at once, at most: the number of timers it can use.
func MaxParallel(workers int) int { return min(workers*smallPerStream, maxParallel) }

// streams returns how many parts of large files are copied in parallel.
func (c *copier) streams() int {
	if c.remote {
		return c.Workers
	}
	return min(max(localStreams, runtime.NumCPU()/2), c.Workers)
}

// copyFiles copies all files. Many parallel requests hide a network's latency, so
// there large and small files are copied at the same time. A local disk is fastest
// with few long streams, and many workers only for small files.
func (c *copier) copyFiles(ctx context.Context, timers []*OpTimer) error {
	large, small := c.spans()
	workers := make(map[*OpTimer]*worker, len(timers))
	for _, t := range timers {
		workers[t] = &worker{c: c, timer: t, hasher: xxh3.New()}
	}
	each := func(ctx context.Context, timers []*OpTimer, spans []span) error {
		return parallel(ctx, timers, len(spans), func(t *OpTimer, i int) error { return workers[t].copySpan(ctx, spans[i]) })
	}
	streams := min(c.streams(), len(timers))
	var err error
	switch {
	case len(large) == 0:
		err = each(ctx, timers, small)
	case c.remote && len(timers) > streams:
		err = both(ctx,
			func(ctx context.Context) error { return each(ctx, timers[:streams], large) },
			func(ctx context.Context) error { return each(ctx, timers[streams:], small) })
	default:
		if err = each(ctx, timers[:streams], large); err == nil {
			err = each(ctx, timers, small)
		}
	}
	for _, w := range workers {
		err = errors.Join(err, w.closeFile(), w.closeFolders())
	}
	return iofault.First(err)
}

// both runs two functions concurrently and returns the first error, which ends
// the other one.
func both(ctx context.Context, one, two func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	for _, f := range []func(context.Context) error{one, two} {
		running.Go(func() {
			if err := f(ctx); err != nil {
				cancel(err)
			}
		})
	}
	running.Wait()
	return context.Cause(ctx)
}

// spans divides the files into what the workers copy, in order: the largest files
// first, so that none of them is left for one worker at the end, and small files
// by directory. Neighbours are of different files and directories where possible,
// since the kernel admits one writer at a time to either.
func (c *copier) spans() (large, small []span) {
	var big [][]span
	count := 0
	byDir := map[string]int{}
	var dirs [][]*fileCopy
	for _, f := range c.files {
		if f.large() {
			big = append(big, c.spansOf(f))
			continue
		}
		dir := path.Dir(c.srcOf(f.entry))
		at, ok := byDir[dir]
		if !ok {
			at = len(dirs)
			byDir[dir] = at
			dirs = append(dirs, nil)
		}
		dirs[at] = append(dirs[at], f)
		count++
	}
	slices.SortStableFunc(big, func(a, b []span) int {
		// Sizes of one magnitude count as equal, so that neighbours stay neighbours.
		return magnitude(b[0].files[0].size) - magnitude(a[0].files[0].size)
	})
	run := min(max(count/(4*MaxParallel(c.Workers)), 1), spanFiles)
	tiny := make([][]span, len(dirs))
	for i, files := range dirs {
		for part := range slices.Chunk(files, run) {
			tiny[i] = append(tiny[i], span{files: part, to: 1})
		}
	}
	return interleave(big), interleave(tiny)
}

// spansOf divides a large file.
func (c *copier) spansOf(f *fileCopy) (parts []span) {
	n := len(f.hashes)
	step := int(min(max(int64(n/(2*c.streams())), 1), max(maxSpan/c.journal.piece, 1)))
	for from := 0; from < n; from += step {
		parts = append(parts, span{[]*fileCopy{f}, from, min(from+step, n)})
	}
	return parts
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

// magnitude is the same for all sizes between two powers of two, the upper
// included.
func magnitude(size int64) int { return bits.Len64(uint64(max(size, 1) - 1)) }

// parallel calls f for 0 to n-1 from as many goroutines as there are timers. It
// returns the first error, after all goroutines have ended.
func parallel(ctx context.Context, timers []*OpTimer, n int, f func(t *OpTimer, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var workers sync.WaitGroup
	for _, t := range timers[:min(n, len(timers))] {
		workers.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := f(t, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	workers.Wait()
	return context.Cause(ctx)
}
