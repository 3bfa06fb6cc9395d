package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/storage"
	"github.com/kirizan/kitt-agent/storage/testdata/copybench"
)

// BenchmarkCopy copies models from a share whose requests take a while and whose
// streams carry 100 MB/s each, beside Python's copytree.
func BenchmarkCopy(b *testing.B) {
	for _, latency := range []time.Duration{2 * time.Millisecond, 10 * time.Millisecond} {
		b.Run(latency.String(), func(b *testing.B) {
			s := &share{latency: latency, limit: 100_000_000}
			dir, mnt := serve(b, s)
			for _, model := range copybench.Models(b, dir) {
				b.Run(model.Name, func(b *testing.B) {
					model.Compare(b, dir, mnt, func(b *testing.B, to string) time.Duration {
						l, err := storage.New(storage.Config{Settings: storage.Settings{Dir: to, ShareMount: mnt}})
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
		})
	}
}
