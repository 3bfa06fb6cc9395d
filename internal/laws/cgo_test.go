package laws

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The one package of NVIDIA's that compiles C.
const goNVML = "github.com/NVIDIA/go-nvml/pkg/nvml"

// Only who imports hwdetect/nvml links NVIDIA's C.
func TestOnlyNVMLLinksC(t *testing.T) {
	t.Parallel()
	const own = module + "/hwdetect/nvml"
	found := false
	for path, p := range list(t, every) {
		require.Empty(t, p.CgoFiles, "%s has C of its own", path)
		if !slices.Contains(p.Deps, goNVML) {
			continue
		}
		found = true
		require.True(t, p.ImportPath == own || slices.Contains(p.Deps, own), "%s links %s", path, goNVML)
	}
	require.True(t, found, "the law has nothing to hold")
}

// Without the tag nvml no package and no test compiles NVIDIA's C, also where
// there is a C compiler: a newcomer's first command prints no warnings.
func TestPlainBuildsCompileNoC(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("go", "list", "-tags=", "-deps", "-test", "-f", "{{if .CgoFiles}}{{if not .Standard}}{{.ImportPath}}{{end}}{{end}}", module+"/...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1", "GOOS=linux")
	out, err := cmd.Output()
	require.NoError(t, err)
	require.Empty(t, strings.Fields(string(out)), "packages with C")
}
