package storagetest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/kirizan/kitt-agent/storage"
)

// Holders that Test takes leases for.
const (
	holderOne = "storagetest-1"
	holderTwo = "storagetest-2"
)

// Test checks that s, which must be able to provide model and no model of the
// name /absent/model.gguf, keeps the promises of [storage.Storage]. It returns
// every breach that it finds, joined. The model may be removed by it, if s is
// what copied it.
func Test(ctx context.Context, s storage.Storage, model string) error {
	t := &tester{s: s, model: model}
	t.usage(ctx)
	t.absent(ctx)
	t.cancelled(ctx)
	t.leases(ctx)
	t.together(ctx)
	return errors.Join(t.breaches...)
}

type tester struct {
	s        storage.Storage
	model    string
	breaches []error
}

func (t *tester) breach(format string, args ...any) {
	t.breaches = append(t.breaches, fmt.Errorf(format, args...))
}

// acquire calls Acquire, whose answer is a lease or an error.
func (t *tester) acquire(ctx context.Context, req storage.Request) (*storage.Lease, error) {
	lease, err := t.s.Acquire(ctx, req)
	if lease == nil && err == nil {
		err = errors.New("neither a lease nor an error")
	}
	return lease, err
}

func (t *tester) usage(ctx context.Context) {
	u, err := t.s.Usage(ctx)
	if err != nil {
		t.breach("Usage: %w", err)
	}
	if u.FreeBytes < 0 || u.UsedBytes < 0 || u.ModelCount < 0 {
		t.breach("Usage: negative: %+v", u)
	}
}

func (t *tester) absent(ctx context.Context) {
	for _, name := range []string{"", "/absent/model.gguf"} {
		lease, err := t.acquire(ctx, storage.Request{Model: name, Holder: holderOne})
		if err == nil {
			t.breach("Acquire of %q gave a lease on %q", name, lease.Path)
			t.release(lease)
		}
		if name != "" && err != nil && !errors.Is(err, storage.ErrNotFound) {
			t.breach("Acquire of %q: the error does not match ErrNotFound: %w", name, err)
		}
	}
}

func (t *tester) cancelled(ctx context.Context) {
	cause := errors.New("storagetest: stopped")
	ctx, cancel := context.WithCancelCause(ctx)
	cancel(cause)
	lease, err := t.acquire(ctx, storage.Request{Model: t.model, Holder: holderOne})
	switch {
	case err == nil:
		t.breach("Acquire with a done context gave a lease")
		t.release(lease)
	case !errors.Is(err, cause) && !errors.Is(err, context.Canceled):
		t.breach("Acquire with a done context: the error does not say so: %w", err)
	}
}

func (t *tester) leases(ctx context.Context) {
	one, err := t.acquire(ctx, storage.Request{Model: t.model, Holder: holderOne})
	if err != nil {
		t.breach("Acquire of %q: %w", t.model, err)
		return
	}
	t.look(one)
	again, err := t.acquire(ctx, storage.Request{Model: t.model, Holder: holderOne})
	if err != nil {
		t.breach("Acquire again for the same holder: %w", err)
	} else if again.Path != one.Path {
		t.breach("Acquire again for the same holder: %q instead of %q", again.Path, one.Path)
	}
	two, err := t.acquire(ctx, storage.Request{Model: t.model, Holder: holderTwo})
	if err != nil {
		t.breach("Acquire for a second holder: %w", err)
	} else {
		t.release(two)
		t.release(two)
	}
	for _, name := range []string{t.model, ""} {
		done, err := t.s.Evict(ctx, name)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			t.breach("Evict of %q: %w", name, err)
		}
		for _, path := range done.Removed {
			if path == one.Path {
				t.breach("Evict of %q removed the leased %q", name, path)
			}
		}
	}
	t.look(one)
	t.release(one)
}

// look checks a lease's path.
func (t *tester) look(lease *storage.Lease) {
	switch lease.Origin {
	case storage.OriginIdentifier:
		if lease.Path != t.model {
			t.breach("identifier %q became %q", t.model, lease.Path)
		}
		return
	case storage.OriginLocal, storage.OriginCopied, storage.OriginInPlace:
	default:
		t.breach("unknown origin %q", lease.Origin)
	}
	real, err := filepath.EvalSymlinks(lease.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		t.breach("leased %q is not there", lease.Path)
	case err != nil:
		t.breach("leased %q: %w", lease.Path, err)
	case !filepath.IsAbs(lease.Path) || real != lease.Path:
		t.breach("leased %q is not absolute and without links", lease.Path)
	}
	if _, err := os.Stat(lease.Path); err != nil {
		t.breach("leased %q: %w", lease.Path, err)
	}
}

func (t *tester) release(lease *storage.Lease) {
	if err := lease.Release(); err != nil {
		t.breach("Release: %w", err)
	}
}

// together has several holders ask at once.
func (t *tester) together(ctx context.Context) {
	var asking sync.WaitGroup
	leases := make([]*storage.Lease, 4)
	errs := make([]error, len(leases))
	for i := range leases {
		asking.Go(func() {
			leases[i], errs[i] = t.acquire(ctx, storage.Request{Model: t.model, Holder: fmt.Sprintf("storagetest-many-%d", i)})
		})
	}
	asking.Wait()
	for i, lease := range leases {
		if errs[i] != nil {
			t.breach("Acquire by several at once: %w", errs[i])
			continue
		}
		t.look(lease)
	}
	for _, lease := range leases {
		if lease != nil {
			t.release(lease)
		}
	}
}
