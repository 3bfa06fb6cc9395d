package hwdetect

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// This package and its fakes need only the standard library.
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
