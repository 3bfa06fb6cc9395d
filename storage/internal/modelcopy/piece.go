package modelcopy

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/storage/internal/iofault"
)

// copyPiece copies one piece of the file, unless an earlier run did, and returns
// its hash.
func (w *worker) copyPiece(ctx context.Context, at int, off, n int64) (hash, error) {
	buffer, free, err := w.buffer(ctx, n)
	if err != nil {
		return hash{}, err
	}
	defer free()
	if w.file.had != nil {
		sum, ok, err := w.resumePiece(buffer, at, off, n)
		if ok || err != nil {
			return sum, err
		}
	}
	if err := w.openSource(); err != nil {
		return hash{}, err
	}
	w.chooseDirect(off, n)
	if !w.direct && !w.c.remote {
		buffer = buffer[:min(len(buffer), cachedBlock)]
	}
	w.hasher.Reset()
	for end := off + n; off < end; {
		block := buffer[:min(int64(len(buffer)), end-off)]
		if err := w.copyBlock(ctx, block, off); err != nil {
			return hash{}, err
		}
		off += int64(len(block))
	}
	return w.hasher.Sum128().Bytes(), nil
}

// resumePiece returns the hash of a piece that an earlier run copied. Otherwise it
// prepares the staged file for the piece.
func (w *worker) resumePiece(buffer []byte, at int, off, n int64) (sum hash, ok bool, err error) {
	if want, ok := w.file.had.pieces[at]; ok {
		if sum, err := w.hashLocal(w.dst, buffer[:min(len(buffer), cachedBlock)], off, n); err == nil && sum == want {
			return sum, true, nil
		}
	}
	// Holes are not written, so what is in their place has to go.
	if w.file.holes {
		if err := w.clearRange(off, n); err != nil {
			return hash{}, false, iofault.Explain("write", w.file.path, err)
		}
	}
	return hash{}, false, nil
}

// copyBlock reads, hashes and writes one block of a piece. A hole is only hashed.
func (w *worker) copyBlock(ctx context.Context, block []byte, off int64) error {
	f, n := w.file, int64(len(block))
	if f.holes && w.nextData(off) >= off+n {
		_, _ = w.hasher.Write(w.c.zeroes[:n]) // cannot fail
		return nil
	}
	if err := w.read(block, off); err != nil {
		return err
	}
	// A read that hung may return long after the copy was abandoned.
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	_, _ = w.hasher.Write(block)
	if err := w.write(block, off); err != nil {
		return iofault.Explain("write", f.path, err)
	}
	if w.c.huge {
		dropCache(w.src, off, n)
		startWriteback(w.dst, off, n)
		// The writeback that started two pieces ago has ended by now.
		dropCache(w.dst, max(off-2*MaxPiece, 0), MaxPiece)
	}
	return nil
}

// buffer returns memory for n bytes, or for as many as one read takes. The number
// of large buffers is limited; small files take none of them.
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
		p = make([]byte, size) // begins at a page, as direct reads require
		// Btrfs serves a direct read into memory that was never touched from the page
		// cache, and reads ahead into that.
		clear(p)
	}
	return p, func() { w.c.buffers <- p }, nil
}

// chooseDirect makes the next reads of a large file, of n bytes at off, bypass the
// page cache if they are not in there. That saves the CPU a copy, and the page
// cache a model that is needed only once.
func (w *worker) chooseDirect(off, n int64) {
	want := w.file.large() && !w.indirect && (w.c.remote || n >= cachedBlock && !inCache(w.src, off, n))
	if want != w.direct {
		w.direct = setDirect(w.src, want)
		w.indirect = want && !w.direct
	}
}

// read fills block, which is the beginning of a buffer of whole sectors.
func (w *worker) read(block []byte, off int64) error {
	w.timer.Begin(&opRead, w.at)
	n, err := w.readAt(block, off)
	w.timer.End()
	w.c.Counters.bytesRead.Add(int64(n))
	if n == len(block) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return fault.New(iofault.Changed, "copy the model when nothing writes to it",
			"%q ended at %d of its %d bytes", *w.at, off+int64(n), w.file.size)
	}
	return iofault.Explain("read", *w.at, err)
}

// readAt reads directly if w.direct is set, and otherwise through the page cache.
func (w *worker) readAt(block []byte, off int64) (n int, err error) {
	if w.direct {
		// It requests whole sectors; the end of the file cuts the last one off.
		n, err = w.src.ReadAt(block[:(len(block)+directUnit-1)&^(directUnit-1)], off)
		n = min(n, len(block))
		if n == len(block) || !errors.Is(err, syscall.EINVAL) {
			return n, err
		}
		w.direct, w.indirect = setDirect(w.src, false), true // not on this file system
	}
	return w.src.ReadAt(block, off)
}

// nextData asks the share where the file's next data is.
func (w *worker) nextData(off int64) int64 {
	w.timer.Begin(&opRead, w.at)
	defer w.timer.End()
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
