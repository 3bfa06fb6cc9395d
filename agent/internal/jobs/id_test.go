package jobs

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSafeID(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"2cf1fe73bb3b43c0", "a", "A.b_c-d"} {
		safe, own := SafeID(id)
		require.True(t, own)
		require.Equal(t, id, safe)
	}
	for _, id := range []string{"", ".", "..", "../x", "a/b", ".hidden", "a b", "é", strings.Repeat("a", 65), "a\x00"} {
		safe, own := SafeID(id)
		require.False(t, own, "%q", id)
		require.Regexp(t, `^invalid-[0-9a-f]{16}$`, safe)
		again, _ := SafeID(id)
		require.Equal(t, safe, again)
	}
}
