package storage_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/storage"
	"github.com/kirizan/kitt-agent/storage/testdata/copybench"
)

// BenchmarkCopy copies models from one directory of a disk to another, compared with
// Python's copytree. The module testdata/nfsfuse does so from a slow share.
func BenchmarkCopy(b *testing.B) {
	share := b.TempDir()
	for _, model := range copybench.Models(b, share) {
		b.Run(model.Name, func(b *testing.B) {
			model.Compare(b, share, share, func(b *testing.B, dir string) time.Duration {
				l, err := storage.New(storage.Config{Settings: storage.Settings{Dir: dir, ShareMount: share}})
				require.NoError(b, err)
				begun := time.Now()
				_, err = l.Acquire(b.Context(), storage.Request{Model: model.Name, Holder: "benchmark"})
				took := time.Since(begun)
				b.StopTimer()
				require.NoError(b, err)
				require.NoError(b, l.Close())
				return took
			})
		})
	}
}

// BenchmarkAcquire measures what a job pays whose model is copied already.
func BenchmarkAcquire(b *testing.B) {
	at := newBench(b)
	write(b, at.share, map[string]string{"m/w": "1", "m/config.json": "{}"})
	at.get(b, "m")
	for b.Loop() {
		lease, err := at.Acquire(b.Context(), storage.Request{Model: "m", Holder: "other"})
		require.NoError(b, err)
		require.NoError(b, lease.Release())
	}
}
