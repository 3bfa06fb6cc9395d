// Package laws holds what the whole module promises about itself: which package
// may import which, and that each is documented.
package laws

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/kirizan/kitt-agent"

// pkg is what `go list` says of a package.
type pkg struct {
	ImportPath   string
	Dir          string
	Name         string
	GoFiles      []string
	CgoFiles     []string
	TestGoFiles  []string
	XTestGoFiles []string
	Imports      []string
	Deps         []string
	Standard     bool
}

// packages returns the module's packages by their path within it, as they are in
// the program that links most: with NVML. Listing compiles no C.
var packages = sync.OnceValues(func() (map[string]pkg, error) {
	cmd := exec.Command("go", "list", "-tags", "nvml", "-json", "-e=false", module+"/...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1", "GOOS=linux")
	out, err := cmd.Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return nil, errors.New(string(exit.Stderr))
		}
		return nil, err
	}
	all := map[string]pkg{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		all[inside(p.ImportPath)] = p
	}
})

// list returns the module's packages that the pattern keeps.
func list(t *testing.T, keep func(path string) bool) map[string]pkg {
	t.Helper()
	all, err := packages()
	require.NoError(t, err)
	kept := map[string]pkg{}
	for path, p := range all {
		if keep(path) {
			kept[path] = p
		}
	}
	return kept
}

func every(string) bool { return true }

// inside returns an import path as seen from the module's root; one from
// elsewhere is unchanged.
func inside(path string) string {
	if path == module {
		return "."
	}
	return strings.TrimPrefix(path, module+"/")
}

func isOurs(path string) bool { return path == module || strings.HasPrefix(path, module+"/") }

// isUnder reports whether path is dir or below it.
func isUnder(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// isTest reports whether a package is one of fakes and conformance suites.
func isTest(path string) bool { return strings.HasSuffix(path, "test") }

// isPublic reports whether other modules can import the package.
func isPublic(path string, p pkg) bool {
	return p.Name != "main" && len(p.GoFiles)+len(p.CgoFiles) > 0 && !slices.Contains(strings.Split(path, "/"), "internal")
}

// groundFloor are the packages that know none of their neighbours.
var groundFloor = []string{"storage", "runner", "logstream", "heartbeat", "hwdetect"}

// leaf is what every package may import. It imports almost nothing itself.
const leaf = "internal/base"

// faults is the error type of all packages. Every package may import it too.
const faults = "fault"

func isLeaf(path string) bool { return path == leaf || path == faults }

func TestLeaf(t *testing.T) {
	t.Parallel()
	leaves := list(t, func(path string) bool { return path == leaf })
	require.Len(t, leaves, 1)
	for _, imported := range leaves[leaf].Imports {
		first, _, _ := strings.Cut(imported, "/")
		require.True(t, !strings.Contains(first, ".") || imported == "github.com/google/renameio/v2", "%s imports %s", leaf, imported)
	}
	for _, dep := range list(t, func(path string) bool { return path == faults })[faults].Deps {
		require.True(t, !isOurs(dep) || inside(dep) == leaf, "%s depends on %s", faults, dep)
	}
}

// An embedder links what it imports and no more.
func TestAgentIsLight(t *testing.T) {
	t.Parallel()
	heavy := []string{"github.com/moby/", "github.com/docker/", "github.com/NVIDIA/", "github.com/spf13/cobra", "github.com/stretchr/testify",
		"github.com/lmittmann/tint", "testing", module + "/runner/docker", module + "/runner/process", module + "/runner/simulated",
		module + "/hwdetect/nvml", module + "/agent/standard", module + "/agent/webpage", "html/template"}
	light := []string{"agent", "agent/certs", "agent/client", "agent/kittapi", "agent/reporter"}
	agents := list(t, func(path string) bool { return slices.Contains(light, path) })
	require.Len(t, agents, len(light))
	for path, p := range agents {
		for _, dep := range p.Deps {
			for _, h := range heavy {
				require.False(t, isUnder(dep, strings.TrimSuffix(h, "/")), "%s links %s", path, dep)
			}
		}
	}
}

// Only the package of metrics and the daemon link Prometheus' client.
func TestWhoLinksPrometheus(t *testing.T) {
	t.Parallel()
	exports := func(path string) bool { return path == "agent/metrics" || path == "cmd/kitt-agent" }
	require.Len(t, list(t, exports), 2)
	for path, p := range list(t, every) {
		for _, dep := range p.Deps {
			require.False(t, isUnder(dep, "github.com/prometheus") && !exports(path), "%s links %s", path, dep)
		}
	}
}

// The ground floor knows no neighbour, and nothing that is heavy to link.
func TestGroundFloor(t *testing.T) {
	t.Parallel()
	for _, own := range groundFloor {
		floor := list(t, func(path string) bool { return path == own })
		require.NotEmpty(t, floor, own)
		for path, p := range floor {
			for _, dep := range p.Deps {
				require.False(t, isOurs(dep) && !isUnder(inside(dep), own) && !isLeaf(inside(dep)), "%s depends on %s", path, dep)
				for _, heavy := range []string{"github.com/moby/moby", "github.com/NVIDIA", "github.com/spf13/cobra"} {
					require.False(t, isUnder(dep, heavy), "%s depends on %s", path, dep)
				}
			}
		}
	}
}

// What implements an interface of the ground floor knows that one package of it.
func TestGroundFloorImplementations(t *testing.T) {
	t.Parallel()
	for _, own := range groundFloor {
		for path, p := range list(t, func(path string) bool { return strings.HasPrefix(path, own+"/") }) {
			for _, dep := range p.Deps {
				require.False(t, isOurs(dep) && !isUnder(inside(dep), own) && !isLeaf(inside(dep)), "%s depends on %s", path, dep)
			}
		}
	}
}

// Nothing imports the daemon, and only it and the examples import what makes up
// virtual agents.
func TestNobodyImportsCmd(t *testing.T) {
	t.Parallel()
	for path, p := range list(t, func(path string) bool { return !isUnder(path, "cmd") }) {
		for _, imported := range p.Imports {
			require.False(t, isUnder(inside(imported), "cmd"), "%s imports %s", path, imported)
		}
	}
}

// Fakes are for tests, examples, other fakes, and the commands that play a whole
// installation on one machine.
func TestWhoImportsFakes(t *testing.T) {
	t.Parallel()
	all := list(t, every)
	for path, p := range all {
		if isTest(path) || isUnder(path, "examples") {
			continue
		}
		for _, file := range append(slices.Clone(p.GoFiles), p.CgoFiles...) {
			for _, imported := range imports(t, filepath.Join(p.Dir, file)) {
				if !isOurs(imported) || !isTest(imported) {
					continue
				}
				playing := isUnder(path, "cmd") && (strings.HasPrefix(file, "demo") || strings.HasPrefix(file, "simulate"))
				require.True(t, playing, "%s/%s imports %s", path, file, imported)
			}
		}
	}
}

// Programs may use fakes too, so these bring no testing library along.
func TestFakesLinkNoTesting(t *testing.T) {
	t.Parallel()
	for path, p := range list(t, isTest) {
		for _, dep := range p.Deps {
			require.NotEqual(t, "testing", dep, "%s", path)
			require.False(t, isUnder(dep, "github.com/stretchr/testify"), "%s", path)
		}
	}
}

// Every package says what it is.
func TestPackageComments(t *testing.T) {
	t.Parallel()
	for path, p := range list(t, every) {
		files := append(slices.Clone(p.GoFiles), p.CgoFiles...)
		if len(files) == 0 {
			files = append(slices.Clone(p.TestGoFiles), p.XTestGoFiles...)
		}
		var comments []string
		for _, file := range files {
			parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, file), nil, parser.ParseComments|parser.PackageClauseOnly)
			require.NoError(t, err)
			if text := parsed.Doc.Text(); text != "" {
				comments = append(comments, text)
			}
		}
		require.Len(t, comments, 1, "%s has %d package comments", path, len(comments))
		want := "Package " + p.Name + " "
		if p.Name == "main" {
			want = "Command "
		}
		require.True(t, strings.HasPrefix(comments[0], want), "the comment of %s does not begin with %q", path, want)
	}
}

// Every public package shows how it is used, in an example whose output is
// checked.
func TestExamples(t *testing.T) {
	t.Parallel()
	for path, p := range list(t, every) {
		if !isPublic(path, p) {
			continue
		}
		found := false
		for _, file := range append(slices.Clone(p.TestGoFiles), p.XTestGoFiles...) {
			found = found || hasExample(t, filepath.Join(p.Dir, file))
		}
		require.True(t, found, "%s has no example with checked output", path)
	}
}

func imports(t *testing.T, file string) []string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	require.NoError(t, err)
	var paths []string
	for _, spec := range parsed.Imports {
		paths = append(paths, strings.Trim(spec.Path.Value, `"`))
	}
	return paths
}

// hasExample reports whether a file holds an example that states its output.
func hasExample(t *testing.T, file string) bool {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	require.NoError(t, err)
	for _, decl := range parsed.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || !strings.HasPrefix(f.Name.Name, "Example") {
			continue
		}
		for _, c := range parsed.Comments {
			text := strings.ToLower(c.Text())
			if c.Pos() > f.Pos() && c.End() <= f.End() && (strings.HasPrefix(text, "output:") || strings.HasPrefix(text, "unordered output:")) {
				return true
			}
		}
	}
	return false
}
