package storage

import (
	"errors"
	"io/fs"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/storage/internal/fault"
)

// TestFaultsBecomeErrors checks that failures of internal packages reach callers
// as Errors of the class with the same meaning.
func TestFaultsBecomeErrors(t *testing.T) {
	t.Parallel()
	for class, want := range map[string]string{
		fault.Invalid: ClassInvalid, fault.Stale: ClassStale, fault.Permission: ClassPermission, fault.Escape: ClassEscape, fault.Loop: ClassLoop,
		fault.Space: ClassSpace, fault.Changed: ClassChanged, fault.Damaged: ClassDamaged, fault.IO: ClassIO,
	} {
		cause := fault.New(class, "do this", "no good: %w", syscall.EIO)
		for _, err := range []error{explain("copy", "m", cause), firstOf(errors.Join(errors.New("first"), cause))} {
			e, ok := errors.AsType[*Error](err)
			require.True(t, ok)
			require.Equal(t, want, e.Class())
			require.Equal(t, "do this", e.Fix())
			require.Equal(t, cause.Error(), e.Error())
			require.ErrorIs(t, err, syscall.EIO)
		}
		require.Equal(t, want, classOf(cause))
	}
	err := explain("open", "m", &fs.PathError{Op: "open", Path: "/m", Err: syscall.ESTALE})
	require.Equal(t, ClassStale, classOf(err))
	require.Same(t, err, explain("copy", "other", err))
	require.NoError(t, explain("open", "m", nil))
}
