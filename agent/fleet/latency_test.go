package fleet

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Quantiles are never too low and at most an eighth too high.
func TestLatencyQuantiles(t *testing.T) {
	t.Parallel()
	var l latencies
	require.Zero(t, l.quantile(0.5))
	for i := 1; i <= 10_000; i++ {
		l.add(time.Duration(i) * 37 * time.Microsecond)
	}
	for _, q := range []float64{0.01, 0.5, 0.9, 0.99, 1} {
		want := time.Duration(q*10_000) * 37 * time.Microsecond
		got := l.quantile(q)
		require.GreaterOrEqual(t, got, want-37*time.Microsecond, "%v", q)
		require.LessOrEqual(t, got, want+want/8, "%v", q)
	}
	l.add(1000 * time.Hour)
	require.Equal(t, 1000*time.Hour, l.quantile(1))
}

// Each time is counted within a bucket that reaches as far, and not much farther.
func TestLatencyBuckets(t *testing.T) {
	t.Parallel()
	for us := int64(0); us < 1<<22; us = us*9/8 + 1 {
		d := time.Duration(us) * time.Microsecond
		i := bucket(d)
		require.LessOrEqual(t, d, limit(i), "%s in %d", d, i)
		if i > 0 {
			require.Greater(t, d, limit(i-1), "%s in %d", d, i)
		}
	}
}
