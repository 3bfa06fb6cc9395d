//go:build !(linux && cgo)

package nvml

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/hwdetect"
)

func TestWithoutCgo(t *testing.T) {
	s := New(Config{})
	require.False(t, Available)
	_, err := s.Inventory(t.Context())
	require.ErrorIs(t, err, hwdetect.ErrAbsent)
	require.ErrorContains(t, err, "without cgo")
	_, err = s.Telemetry(t.Context())
	require.ErrorIs(t, err, hwdetect.ErrAbsent)
	require.NoError(t, s.Close())
}
