package slurm

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// An answer of squeue from before a submission says nothing of the job, and one answer
// alone does not tell that it is gone, however long ago it was.
func TestAnOldAnswerSaysNothing(t *testing.T) {
	t.Parallel()
	at := time.Now()
	f := &follower{submitted: at, intent: intent{Name: "a"}}
	f.note(&snapshot{at: at.Add(-time.Second)})
	require.Nil(t, f.over.Load())

	f.note(&snapshot{at: at.Add(time.Second)})
	require.False(t, f.over.Load().settled(at.Add(time.Hour), time.Minute))
	f.note(&snapshot{at: at.Add(2 * time.Minute)})
	require.True(t, f.over.Load().settled(at.Add(2*time.Minute), time.Minute))

	f.note(&snapshot{at: at.Add(3 * time.Minute), jobs: map[string][]entry{"a": {{ID: "1", State: "PENDING"}}}})
	require.Nil(t, f.over.Load())
	f.note(&snapshot{at: at.Add(4 * time.Minute), jobs: map[string][]entry{"a": {{ID: "1", State: "COMPLETED"}}}})
	require.True(t, f.over.Load().settled(at.Add(6*time.Minute), time.Minute), "it was seen to end")
}
