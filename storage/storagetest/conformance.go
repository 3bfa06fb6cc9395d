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

// Test checks that s satisfies the contract of [storage.Storage]. s must be able to
// provide model, and no model named /absent/model.gguf. Test returns every violation
// that it finds, joined. It may remove the model if s copied it.
func Test(ctx context.Context, s storage.Storage, model string) error {
	t := &tester{s: s, model: model}
	t.usage(ctx)
	t.absent(ctx)
	t.cancelled(ctx)
	t.leases(ctx)
	t.concurrently(ctx)
	t.settings()
	return errors.Join(t.violations...)
}

type tester struct {
	s          storage.Storage
	model      string
	violations []error
}

func (t *tester) violation(format string, args ...any) {
	t.violations = append(t.violations, fmt.Errorf(format, args...))
}

// acquire calls Acquire, which must return a lease or an error.
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
		t.violation("Usage: %w", err)
	}
	if u.FreeBytes < 0 || u.UsedBytes < 0 || u.ModelCount < 0 {
		t.violation("Usage: negative: %+v", u)
	}
}

func (t *tester) absent(ctx context.Context) {
	for _, name := range []string{"", "/absent/model.gguf"} {
		lease, err := t.acquire(ctx, storage.Request{Model: name, Holder: holderOne})
		if err == nil {
			t.violation("Acquire of %q returned a lease on %q", name, lease.Path)
			t.release(lease)
		}
		if name != "" && err != nil && !errors.Is(err, storage.ErrNotFound) {
			t.violation("Acquire of %q: the error does not match ErrNotFound: %w", name, err)
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
		t.violation("Acquire with a done context returned a lease")
		t.release(lease)
	case !errors.Is(err, cause) && !errors.Is(err, context.Canceled):
		t.violation("Acquire with a done context: the error does not match the context's: %w", err)
	}
}

func (t *tester) leases(ctx context.Context) {
	one, err := t.acquire(ctx, storage.Request{Model: t.model, Holder: holderOne})
	if err != nil {
		t.violation("Acquire of %q: %w", t.model, err)
		return
	}
	t.checkLease(one)
	again, err := t.acquire(ctx, storage.Request{Model: t.model, Holder: holderOne})
	if err != nil {
		t.violation("Acquire again for the same holder: %w", err)
	} else if again.Path != one.Path {
		t.violation("Acquire again for the same holder: %q instead of %q", again.Path, one.Path)
	}
	two, err := t.acquire(ctx, storage.Request{Model: t.model, Holder: holderTwo})
	if err != nil {
		t.violation("Acquire for a second holder: %w", err)
	} else {
		t.release(two)
		t.release(two)
	}
	for _, name := range []string{t.model, ""} {
		done, err := t.s.Evict(ctx, name)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			t.violation("Evict of %q: %w", name, err)
		}
		for _, path := range done.Removed {
			if path == one.Path {
				t.violation("Evict of %q removed the leased %q", name, path)
			}
		}
	}
	t.checkLease(one)
	t.release(one)
}

// checkLease checks a lease's path.
func (t *tester) checkLease(lease *storage.Lease) {
	switch lease.Origin {
	case storage.OriginIdentifier:
		if lease.Path != t.model {
			t.violation("identifier %q became %q", t.model, lease.Path)
		}
		return
	case storage.OriginLocal, storage.OriginCopied, storage.OriginInPlace:
	default:
		t.violation("unknown origin %q", lease.Origin)
	}
	real, err := filepath.EvalSymlinks(lease.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		t.violation("leased %q does not exist", lease.Path)
	case err != nil:
		t.violation("leased %q: %w", lease.Path, err)
	case !filepath.IsAbs(lease.Path) || real != lease.Path:
		t.violation("leased %q is not an absolute path without links", lease.Path)
	}
	if _, err := os.Stat(lease.Path); err != nil {
		t.violation("leased %q: %w", lease.Path, err)
	}
}

func (t *tester) release(lease *storage.Lease) {
	if err := lease.Release(); err != nil {
		t.violation("Release: %w", err)
	}
}

// settings sets a Configurer's settings to what they are.
func (t *tester) settings() {
	c, ok := storage.As[storage.Configurer](t.s)
	if !ok {
		return
	}
	before := c.Settings()
	if err := c.Configure(before); err != nil {
		t.violation("Configure with the current Settings: %w", err)
	}
	if after := c.Settings(); after != before {
		t.violation("Configure with the current Settings changed them from %+v to %+v", before, after)
	}
}

// concurrently has several holders request the model at the same time.
func (t *tester) concurrently(ctx context.Context) {
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
			t.violation("concurrent Acquire: %w", errs[i])
			continue
		}
		t.checkLease(lease)
	}
	for _, lease := range leases {
		if lease != nil {
			t.release(lease)
		}
	}
}
