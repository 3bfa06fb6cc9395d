package webpage

import (
	"context"
	"errors"
	"time"
)

// A diskReader bounds what a disk that hangs can take: each caller waits for a limited
// time, and of its calls only few are in flight. The goroutines of those that hang stay
// until the disk answers.
type diskReader struct{ slots chan struct{} }

const (
	diskSlots = 4
	diskWait  = 3 * time.Second
	chartWait = 20 * time.Second // for a run of ten hours on eight GPUs, which is some 50 MB
)

var errDiskHangs = errors.New("the disk does not answer; reload the page to try again")

func newDiskReader() diskReader { return diskReader{make(chan struct{}, diskSlots)} }

// read returns what do returns. After wait the error is errDiskHangs.
func read[T any](ctx context.Context, d diskReader, wait time.Duration, do func(context.Context) (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	var none T
	ctx, cancel := context.WithTimeout(ctx, wait)
	select {
	case d.slots <- struct{}{}:
	case <-ctx.Done():
		cancel()
		return none, errDiskHangs
	}
	done := make(chan answer, 1)
	go func() {
		defer func() {
			cancel()
			<-d.slots
		}()
		value, err := do(ctx)
		done <- answer{value, err}
	}()
	select {
	case a := <-done:
		return a.value, a.err
	case <-ctx.Done():
		return none, errDiskHangs
	}
}
