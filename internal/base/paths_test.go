package base_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/internal/base"
)

func TestBelowAndWithin(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		dir, name, rel string
		within         bool
	}{
		{"/a", "/a/b/c", "b/c", true},
		{"/a/", "/a/b", "b", true},
		{"/", "/a", "a", true},
		{"/a", "/a", "", true},
		{"/", "/", "", true},
		{"/a", "/ab", "", false},
		{"/a/b", "/a", "", false},
		{"", "/a", "", false},
		{"", "", "", false},
		{"/a", "", "", false},
	} {
		rel, ok := base.Below(tt.dir, tt.name)
		require.Equal(t, tt.rel, rel, "%q %q", tt.dir, tt.name)
		require.Equal(t, tt.rel != "", ok, "%q %q", tt.dir, tt.name)
		require.Equal(t, tt.within, base.Within(tt.dir, tt.name), "%q %q", tt.dir, tt.name)
	}
}
