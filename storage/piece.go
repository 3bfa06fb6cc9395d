package storage

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"

	"github.com/zeebo/xxh3"
)

// piece brings one piece of the file here, unless it is here, and returns its
// hash.
func (w *worker) piece(ctx context.Context, at int, off, n int64) (hash, error) {
	f := w.file
	buffer, free, err := w.buffer(ctx, n)
	if err != nil {
		return hash{}, err
	}
	defer free()
	if f.had != nil {
		if want, ok := f.had.pieces[at]; ok {
			if sum, err := w.hashLocal(w.dst, buffer[:min(len(buffer), cachedBlock)], off, n); err == nil && sum == want {
				return sum, nil
			}
		}
		// Holes are not written: what is in their place has to go.
		if f.holes {
			if err := w.clear(off, n); err != nil {
				return hash{}, explain("write", f.path, err)
			}
		}
	}
	if err := w.openSource(); err != nil {
		return hash{}, err
	}
	w.passCache(off, n)
	if !w.direct && !w.c.remote {
		buffer = buffer[:min(len(buffer), cachedBlock)]
	}
	w.hasher.Reset()
	for end := off + n; off < end; {
		block := buffer[:min(int64(len(buffer)), end-off)]
		step := int64(len(block))
		if f.holes && w.nextData(off) >= off+step {
			_, _ = w.hasher.Write(w.c.zeroes[:step]) // cannot fail
			off += step
			continue
		}
		if err := w.read(block, off); err != nil {
			return hash{}, err
		}
		// A read that hung may come back long after the copy was given up.
		if ctx.Err() != nil {
			return hash{}, context.Cause(ctx)
		}
		_, _ = w.hasher.Write(block)
		if err := w.write(block, off); err != nil {
			return hash{}, explain("write", f.path, err)
		}
		if w.c.huge {
			forget(w.src, off, step)
			writeBack(w.dst, off, step)
			// What was begun two pieces ago is on disk by now.
			forget(w.dst, max(off-2*maxPiece, 0), maxPiece)
		}
		off += step
	}
	return w.hasher.Sum128().Bytes(), nil
}

// buffer returns memory for n bytes, or for as many as are read at once. There
// are only so many large buffers; small files take none of them.
func (w *worker) buffer(ctx context.Context, n int64) (p []byte, free func(), err error) {
	if n <= smallBuffer {
		if w.small == nil {
			w.small = make([]byte, smallBuffer)
		}
		return w.small, func() {}, nil
	}
	select {
	case p = <-w.c.buffers:
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
	size := cachedBlock
	if w.file.large() || w.c.remote {
		size = directBlock
	}
	if len(p) < size {
		p = make([]byte, size) // begins at a page, as direct reads want it
		// Btrfs answers a direct read into memory that was never touched through
		// the page cache, and reads ahead into that.
		clear(p)
	}
	return p, func() { w.c.buffers <- p }, nil
}

// passCache has the next reads of a large file, of n bytes at off, pass the page
// cache by if they are not in there: they come right into our memory. That spares
// the CPU a copy, and the page cache a model that is needed only once.
func (w *worker) passCache(off, n int64) {
	want := w.file.large() && !w.indirect && (w.c.remote || n >= cachedBlock && !inCache(w.src, off, n))
	if want != w.direct {
		w.direct = setDirect(w.src, want)
		w.indirect = want && !w.direct
	}
}

// read fills block, which is the beginning of a buffer of whole sectors.
func (w *worker) read(block []byte, off int64) error {
	f := w.file
	w.pulse.begin(&opRead, &w.at)
	var n int
	var err error
	if w.direct {
		// Whole sectors are asked for; the file's end cuts the last one off.
		n, err = w.src.ReadAt(block[:(len(block)+directUnit-1)&^(directUnit-1)], off)
		n = min(n, len(block))
		if n < len(block) && errors.Is(err, syscall.EINVAL) { // not on this file system
			w.direct, w.indirect = setDirect(w.src, false), true
		}
	}
	if !w.direct {
		n, err = w.src.ReadAt(block, off)
	}
	w.pulse.end()
	w.c.count.bytesRead.Add(int64(n))
	if n == len(block) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return fail(ClassChanged, "copy the model when nothing writes to it",
			"%q ended at %d of its %d bytes", w.at, off+int64(n), f.size)
	}
	return explain("read", w.at, err)
}

// nextData asks the share where the file's next data is.
func (w *worker) nextData(off int64) int64 {
	w.pulse.begin(&opRead, &w.at)
	defer w.pulse.end()
	return nextData(w.src, off, w.file.size)
}

// hashLocal hashes a piece of a local file.
func (w *worker) hashLocal(f *os.File, buffer []byte, off, n int64) (hash, error) {
	w.hasher.Reset()
	for end := off + n; off < end; {
		block := buffer[:min(int64(len(buffer)), end-off)]
		if _, err := f.ReadAt(block, off); err != nil {
			return hash{}, err
		}
		_, _ = w.hasher.Write(block) // cannot fail
		off += int64(len(block))
	}
	return w.hasher.Sum128().Bytes(), nil
}

// joinHashes returns a file's hash: that of its only piece, or the XXH3-128 of
// the hashes of its pieces.
func joinHashes(all []hash) hash {
	if len(all) == 1 {
		return all[0]
	}
	h := xxh3.New()
	for _, one := range all {
		_, _ = h.Write(one[:]) // cannot fail
	}
	return h.Sum128().Bytes()
}
