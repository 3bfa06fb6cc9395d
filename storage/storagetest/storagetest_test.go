package storagetest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kirizan/kitt-agent/storage"
	"github.com/kirizan/kitt-agent/storage/storagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLocalAndTheFakeSatisfyTheContract(t *testing.T) {
	t.Parallel()
	share := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(share, "org/m"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(share, "org/m/weights"), []byte("1"), 0o644))
	for _, auto := range []bool{false, true} {
		local, err := storage.New(storage.Config{Settings: storage.Settings{
			Dir: filepath.Join(t.TempDir(), "models"), ShareMount: share, AutoCleanup: auto}})
		require.NoError(t, err)
		require.NoError(t, storagetest.Test(t.Context(), local, "org/m"))
		require.NoError(t, storagetest.Test(t.Context(), local, "qwen2.5:7b"))
		require.NoError(t, storagetest.Test(t.Context(), wrapped{local}, "org/m"))
		require.NoError(t, local.Close())
	}
	absent := []string{"/absent/model.gguf"}
	require.NoError(t, storagetest.Test(t.Context(), &storagetest.Fake{Absent: absent}, "org/m"))
	require.NoError(t, storagetest.Test(t.Context(), &storagetest.Fake{Absent: absent, Paths: map[string]string{"org/m": share}}, "org/m"))
}

// A wrapped storage is found through Unwrap.
type wrapped struct{ storage.Storage }

func (w wrapped) Unwrap() storage.Storage { return w.Storage }

// broken violates everything in the contract that a caller can see.
type broken struct{ storagetest.Fake }

func (b *broken) Acquire(context.Context, storage.Request) (*storage.Lease, error) {
	return storage.NewLease("relative/path", "nowhere", func() error { return errors.New("not released") }), nil
}

func (b *broken) Evict(context.Context, string) (storage.Eviction, error) {
	return storage.Eviction{Removed: []string{"relative/path"}}, nil
}

func (b *broken) Configure(storage.Settings) error { return errors.New("no settings") }

func TestViolationsAreFound(t *testing.T) {
	t.Parallel()
	err := storagetest.Test(t.Context(), wrapped{&broken{}}, "org/m")
	for _, want := range []string{`Acquire of ""`, "done context returned a lease", "unknown origin", "removed the leased", "not released", "does not exist", "current Settings: no settings"} {
		require.ErrorContains(t, err, want)
	}
}

// empty returns neither a lease nor an error.
type empty struct{ storagetest.Fake }

func (e *empty) Acquire(context.Context, storage.Request) (*storage.Lease, error) { return nil, nil }

func TestAnEmptyAnswerIsAViolation(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, storagetest.Test(t.Context(), &empty{}, "org/m"), `Acquire of "org/m": neither a lease nor an error`)
}

func TestFakeRecordsAndFails(t *testing.T) {
	t.Parallel()
	fault := errors.New("share is gone")
	f := &storagetest.Fake{Err: fault}
	_, err := f.Acquire(t.Context(), storage.Request{Model: "m", Holder: "j"})
	require.ErrorIs(t, err, fault)
	require.Len(t, f.Acquired(), 1)

	f = &storagetest.Fake{Paths: map[string]string{"m": "/models/m"}}
	lease, err := f.Acquire(t.Context(), storage.Request{Model: "m", Holder: "j"})
	require.NoError(t, err)
	require.Equal(t, []string{"m"}, f.Held())
	done, err := f.Evict(t.Context(), "")
	require.NoError(t, err)
	require.Equal(t, []storage.Kept{{Path: "/models/m", Reason: "in use by j"}}, done.Kept)
	require.NoError(t, lease.Release())
	done, err = f.Evict(t.Context(), "")
	require.NoError(t, err)
	require.Equal(t, []string{"/models/m"}, done.Removed)
	f.Plan([]string{"x"})
	require.NoError(t, f.Configure(storage.Settings{Dir: "/d"}))
	require.Equal(t, [][]string{{"x"}}, f.Plans())
	require.Equal(t, "/d", f.Configured()[0].Dir)
	require.Equal(t, f.Configured()[0], f.Settings())
	require.Equal(t, []string{"", ""}, f.Evicted())
	require.Len(t, f.Released(), 1)
}

func TestFakeWaits(t *testing.T) {
	t.Parallel()
	f := &storagetest.Fake{Block: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := f.Acquire(ctx, storage.Request{Model: "m", Holder: "j"})
	require.ErrorIs(t, err, context.Canceled)
}

// A test harness gives the agent a storage that has one model.
func ExampleFake() {
	f := &storagetest.Fake{Paths: map[string]string{"org/model": "/models/org/model"}}
	lease, err := f.Acquire(context.Background(), storage.Request{Model: "org/model", Holder: "job-1"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(lease.Path, lease.Origin, f.Held())
	fmt.Println(lease.Release(), f.Held())
	// Output:
	// /models/org/model copied [org/model]
	// <nil> []
}
