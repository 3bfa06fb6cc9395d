package harness_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/runner/runnertest"
	"github.com/kirizan/kitt-agent/storage"
	"github.com/kirizan/kitt-agent/storage/storagetest"
)

// A flakyStorage is any storage whose first requests for a model fail.
type flakyStorage struct {
	storage.Storage
	failures atomic.Int32 // that are still to come
	err      error
}

func (s *flakyStorage) Acquire(ctx context.Context, req storage.Request) (*storage.Lease, error) {
	if s.failures.Add(-1) >= 0 {
		return nil, s.err
	}
	return s.Storage.Acquire(ctx, req)
}

func TestAShareThatComesBack(t *testing.T) {
	t.Parallel()
	server, err := kittapitest.NewServer(kittapitest.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	server.AddAgent("gpu-01")
	first, _, err := server.Launch("gpu-01", "/share/Qwen2.5-7B")
	require.NoError(t, err)
	second, _, err := server.Launch("gpu-01", "/share/Qwen2.5-7B")
	require.NoError(t, err)

	models := &storagetest.Fake{Paths: map[string]string{"/share/Qwen2.5-7B": "/models/Qwen2.5-7B"}}
	flaky := &flakyStorage{Storage: models, err: errors.New("stale file handle")}
	flaky.failures.Store(1)
	ran := &runnertest.Fake{Lines: []string{"measuring"}}
	startAgent(t, server.URL, nil, agent.Config{Name: "gpu-01", Runner: ran, Storage: flaky})

	require.NoError(t, server.WaitForStatus(within(t, time.Minute), first, "failed"))
	test, _ := server.Test(first)
	require.Contains(t, test.Error, "stale file handle")
	require.NoError(t, server.WaitForStatus(within(t, time.Minute), second, "completed"))
	require.Len(t, ran.Jobs(), 1, "nothing ran without its model")
	require.Equal(t, "/models/Qwen2.5-7B", ran.Jobs()[0].Model)
}

// A storage of one's own is held to the same contract as the module's.
func TestAFlakyStorageIsAStorageOtherwise(t *testing.T) {
	t.Parallel()
	models := &storagetest.Fake{Paths: map[string]string{"m": t.TempDir()}, Absent: []string{"/absent/model.gguf"}}
	require.NoError(t, storagetest.Test(t.Context(), &flakyStorage{Storage: models}, "m"))
}
