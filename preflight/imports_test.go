package preflight

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Programs that import this package link no Docker client and no cgo.
func TestDependencies(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	require.NoError(t, err)
	const module = "github.com/kirizan/kitt-agent/"
	ours := []string{module + "preflight", module + "hwdetect", module + "internal/base", "github.com/google/renameio/v2"}
	for _, dep := range strings.Fields(string(out)) {
		require.True(t, slices.Contains(ours, dep) || strings.HasPrefix(dep, "golang.org/x/sys/"), dep)
	}
}
