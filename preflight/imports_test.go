package preflight

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Who imports this package links no Docker client and no cgo.
func TestDependencies(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	require.NoError(t, err)
	for _, dep := range strings.Fields(string(out)) {
		allowed := dep == "github.com/kirizan/kitt-agent/preflight" || dep == "github.com/kirizan/kitt-agent/hwdetect" || strings.HasPrefix(dep, "golang.org/x/sys/")
		require.True(t, allowed, dep)
	}
}
