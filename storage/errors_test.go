package storage

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/storage/internal/iofault"
)

// TestClasses checks that failures of internal packages have the classes that this
// package lists.
func TestClasses(t *testing.T) {
	t.Parallel()
	for class, want := range map[string]string{
		iofault.Invalid: ClassInvalid, iofault.Stale: ClassStale, iofault.Permission: ClassPermission, iofault.Escape: ClassEscape, iofault.Loop: ClassLoop,
		iofault.Space: ClassSpace, iofault.Changed: ClassChanged, iofault.Damaged: ClassDamaged, iofault.IO: ClassIO,
	} {
		require.Equal(t, want, class)
	}
}
