package laws

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A browser is driven by the tests of one example and by nothing else, so that
// no program and no other test links what drives it.
func TestOnlyAPagesTestsDriveABrowser(t *testing.T) {
	t.Parallel()
	drives := func(imported string) bool { return strings.HasPrefix(imported, "github.com/chromedp/") }
	found := false
	for path, p := range list(t, every) {
		require.False(t, slices.ContainsFunc(p.Deps, drives), "%s links chromedp", path)
		for _, file := range append(slices.Clone(p.TestGoFiles), p.XTestGoFiles...) {
			if slices.ContainsFunc(imports(t, p.Dir+"/"+file), drives) {
				require.Equal(t, "examples/controlplane", path)
				found = true
			}
		}
	}
	require.True(t, found, "the law has nothing to hold")
}
