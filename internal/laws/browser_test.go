package laws

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A browser is driven through one package, by the tests of pages and by nothing else, so
// that no program and no other test links what drives it.
func TestOnlyTestsOfPagesDriveABrowser(t *testing.T) {
	t.Parallel()
	const driver = "internal/browser"
	pages := []string{"agent/webpage", "examples/controlplane"}
	drives := func(imported string) bool {
		return strings.HasPrefix(imported, "github.com/chromedp/") || inside(imported) == driver
	}
	found := false
	for path, p := range list(t, every) {
		if path == driver {
			continue
		}
		require.False(t, slices.ContainsFunc(p.Deps, drives), "%s links chromedp", path)
		for _, file := range append(slices.Clone(p.TestGoFiles), p.XTestGoFiles...) {
			if slices.ContainsFunc(imports(t, p.Dir+"/"+file), drives) {
				require.Contains(t, pages, path)
				found = true
			}
		}
	}
	require.True(t, found, "the law has nothing to hold")
}
