package config

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSetsOfGPUs reads and refuses sets.
func TestSetsOfGPUs(t *testing.T) {
	t.Parallel()
	c, err := resolveText(t, "name: a\ngpu_sets: [[0, GPU-1], [MIG-2]]\nexclusive: true\n")
	require.NoError(t, err)
	require.Equal(t, [][]string{{"0", "GPU-1"}, {"MIG-2"}}, c.GPUSets)
	require.True(t, c.Exclusive)
	require.Zero(t, c.MaxConcurrentJobs)
	c, err = resolveText(t, "name: a\ngpus_per_job: 2\n")
	require.NoError(t, err)
	require.Equal(t, 2, c.GPUsPerJob)
	for text, want := range map[string]string{
		"gpu_sets: 2":                      "no list",
		"gpu_sets: [0, 1]":                 "no list",
		"gpu_sets: [[all]]":                "neither a UUID nor an index",
		"gpu_sets: [[0], [0]]":             "in set 1 and in set 2",
		"gpu_sets: [[]]":                   "has 0 GPUs",
		"gpus_per_job: 0":                  "gpus_per_job",
		"gpu_sets: [[0]]\ngpus_per_job: 1": "keep one of the two",
		"gpus: none\ngpus_per_job: 1":      "remove one of the two",
	} {
		_, err := resolveText(t, "name: a\n"+text+"\n")
		require.ErrorContains(t, err, want, text)
	}
}
