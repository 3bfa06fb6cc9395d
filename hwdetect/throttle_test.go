package hwdetect

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Bits that no name is known for are reported, and not left out.
func TestThrottleReasons(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"sw_power_cap", "hw_thermal_slowdown"}, ThrottleReasons(0x1|0x4|0x40))
	require.Equal(t, []string{"board_limit", "reliability", "0x800", "0x8000000000000000"}, ThrottleReasons(1<<63|0x800|0x400|0x200))
	require.Equal(t, []string{}, ThrottleReasons(0x1), "idle is not throttled")
	require.Equal(t, uint64(0x4), ThrottleBits([]string{"sw_power_cap", "", "gpu_idle", "else"}))
	rapid.Check(t, func(t *rapid.T) {
		bits := rapid.Uint64().Draw(t, "bits")
		require.Equal(t, bits&^1, ThrottleBits(ThrottleReasons(bits)))
	})
}
