package base

import (
	"context"
	"io"
)

// readerFunc is a function as an [io.Reader].
type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// Reader returns a reader of r that fails with the cause of ctx once that is done. A
// Read that r has begun it does not interrupt.
func Reader(ctx context.Context, r io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		return r.Read(p)
	})
}
