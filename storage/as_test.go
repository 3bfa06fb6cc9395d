package storage_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/storage"
	"github.com/kirizan/kitt-agent/storage/storagetest"
)

// A counter counts requests.
type counter struct {
	storage.Storage
	requests int
}

func (c *counter) Acquire(ctx context.Context, req storage.Request) (*storage.Lease, error) {
	c.requests++
	return c.Storage.Acquire(ctx, req)
}

func (c *counter) Unwrap() storage.Storage { return c.Storage }

// A wrapped storage hides its optional interfaces from type assertions.
func ExampleAs() {
	var s storage.Storage = &counter{Storage: &storagetest.Fake{}}
	_, asserted := s.(storage.Planner)
	planner, found := storage.As[storage.Planner](s)
	fmt.Println(asserted, found)
	planner.Plan([]string{"org/model"})
	// Output: false true
}

// An opaque storage wraps another one without an Unwrap method.
type opaque struct{ storage.Storage }

// An empty storage unwraps to nothing.
type empty struct{ storage.Storage }

func (empty) Unwrap() storage.Storage { return nil }

func TestAs(t *testing.T) {
	t.Parallel()
	fake := &storagetest.Fake{}
	inner := &counter{Storage: fake}
	outer := &counter{Storage: inner}

	planner, ok := storage.As[storage.Planner](outer)
	require.True(t, ok)
	require.Same(t, fake, planner)
	first, ok := storage.As[*counter](outer)
	require.True(t, ok)
	require.Same(t, outer, first, "the outermost one comes first")
	concrete, ok := storage.As[*storagetest.Fake](outer)
	require.True(t, ok)
	require.Same(t, fake, concrete)

	for _, s := range []storage.Storage{nil, opaque{fake}, &counter{Storage: opaque{fake}}, empty{}} {
		_, ok := storage.As[storage.Configurer](s)
		require.False(t, ok, "%T", s)
	}
	_, ok = storage.As[fmt.Stringer](outer)
	require.False(t, ok)
}
