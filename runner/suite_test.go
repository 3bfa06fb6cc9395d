package runner_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner"
)

func TestSuiteBenchmarks(t *testing.T) {
	t.Parallel()
	names, known := runner.SuiteBenchmarks("performance")
	require.True(t, known)
	require.Equal(t, []string{"throughput", "latency", "memory_usage", "warmup_analysis"}, names)
	names[0] = "mine" // a copy
	names, known = runner.SuiteBenchmarks("perfomance")
	require.False(t, known)
	require.Equal(t, []string{"throughput"}, names)
	names, _ = runner.SuiteBenchmarks("performance")
	require.Equal(t, "throughput", names[0])
}
