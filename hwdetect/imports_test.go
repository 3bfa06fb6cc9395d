package hwdetect

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Who imports this package gets the standard library, and neither cgo's users nor
// test libraries.
func TestDependencies(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{".", "./hwdetecttest"} {
		out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", dir).Output()
		require.NoError(t, err)
		for _, dep := range strings.Fields(string(out)) {
			require.True(t, strings.HasPrefix(dep, "github.com/kirizan/kitt-agent/hwdetect"), "%s imports %s", dir, dep)
		}
	}
}
