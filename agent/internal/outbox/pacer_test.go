package outbox

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWhenLinesAreJoined(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 16, 0, 0, 0, time.UTC)
	fast, slow, stalled := &pacer{}, &pacer{}, &pacer{}
	for range 5 {
		fast.answered(time.Microsecond)
		slow.answered(100 * time.Millisecond)
		stalled.answered(2 * time.Millisecond)
	}
	stalled.answered(10 * time.Second)
	for name, tt := range map[string]struct {
		p    *pacer
		most int64 // lines that are not joined
	}{
		"unknown": {&pacer{}, 1200}, "fast": {fast, 1200}, "slow": {slow, 30}, "one late answer": {stalled, 1200},
	} {
		require.False(t, tt.p.join(tt.most, now, false), name)
		require.True(t, tt.p.join(tt.most+1, now, false), name)
		require.True(t, tt.p.join(1, now.Add(joinFor-1), false), name)
		require.False(t, tt.p.join(1, now.Add(joinFor), false), name)
	}
}

func TestLinesAreJoinedSoonerWhileTheAgentStops(t *testing.T) {
	t.Parallel()
	p, now := &pacer{}, time.Now()
	for range 5 {
		p.answered(time.Millisecond)
	}
	require.False(t, p.join(400, now, true))
	require.True(t, p.join(401, now, true))
	p.answered(5 * time.Second)
	require.True(t, p.join(1, now, true))
}

// TestAFloodToAFastServerIsJoined has a line ready whenever one is sent: a server that
// answers at once is not flooded for longer than a slower one.
func TestAFloodToAFastServerIsJoined(t *testing.T) {
	t.Parallel()
	p, now, sent := &pacer{}, time.Now(), 0
	for !p.join(1, now, false) {
		p.sending(1, now)
		p.answered(0)
		sent++
		require.LessOrEqual(t, sent, 1200)
	}
	// It goes on being joined while lines come faster than single requests carry them.
	for range 100 {
		now = now.Add(joinPace)
		p.sending(100, now)
	}
	require.True(t, p.join(1, now.Add(joinFor-1), false))
	for range 20 {
		now = now.Add(joinPace)
		p.sending(2, now)
	}
	require.False(t, p.join(1, now.Add(time.Millisecond), false))
}
