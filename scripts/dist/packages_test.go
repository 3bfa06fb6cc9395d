package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// newRelease returns a release whose programs and documents for this machine are
// built, in the root of the repository.
func newRelease(t *testing.T, version string) *release {
	t.Helper()
	t.Chdir(filepath.Join("..", ".."))
	start := func(name string, args ...string) *exec.Cmd { return exec.CommandContext(t.Context(), name, args...) }
	r := &release{
		start: start, dir: t.TempDir(), work: t.TempDir(), version: version, glibc: map[string]string{},
		commit: "0123456789012345678901234567890123456789", date: time.Unix(1700000000, 0).UTC(),
	}
	require.NoError(t, r.build(program{runtime.GOARCH, true}))
	require.NoError(t, r.documents())
	require.NoError(t, r.bill(runtime.GOARCH))
	return r
}

// packages returns the paths of the deb and the rpm of a version.
func (r *release) packages(t *testing.T, version string) (deb, rpm string) {
	t.Helper()
	r.version = version
	require.NoError(t, r.changelog())
	require.NoError(t, r.systemPackages(runtime.GOARCH))
	base := filepath.Join(r.dir, "kitt-agent_"+version+"_linux_"+runtime.GOARCH)
	return base + ".deb", base + ".rpm"
}

// said runs a program that must succeed and returns what it said.
func said(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput() // also in a cleanup
	require.NoError(t, err, "%q: %s", argv, out)
	return string(out)
}

// The packages hold all that a user of a system expects, and lintian finds nothing.
func TestPackages(t *testing.T) {
	if os.Getenv("KITT_TEST_PACKAGES") != "1" {
		t.Skip("SKIPPED because it builds packages; KITT_TEST_PACKAGES=1 has it run, with dpkg-deb, rpm and lintian")
	}
	r := newRelease(t, "v1.2.0")
	deb, rpm := r.packages(t, "v1.2.0")
	both := []string{
		"/usr/bin/kitt-agent", "/usr/lib/systemd/system/kitt-agent.service",
		"/usr/share/man/man1/kitt-agent.1.gz", "/usr/share/man/man1/kitt-agent-logs.1.gz", "/usr/share/man/man5/agent.yaml.5.gz",
		"/usr/share/bash-completion/completions/kitt-agent", "/usr/share/fish/vendor_completions.d/kitt-agent.fish",
		"/usr/share/doc/kitt-agent/changelog.gz", "/usr/share/doc/kitt-agent/sbom.cdx.json",
	}
	files := said(t, "dpkg-deb", "--contents", deb)
	for _, file := range append(both, "/usr/share/zsh/vendor-completions/_kitt-agent", "/usr/share/doc/kitt-agent/copyright") {
		require.Contains(t, files, "."+file+"\n")
	}
	files = said(t, "rpm", "-qpl", rpm)
	for _, file := range append(both, "/usr/share/zsh/site-functions/_kitt-agent", "/usr/share/licenses/kitt-agent/LICENSE") {
		require.Contains(t, files, file+"\n")
	}
	require.Contains(t, said(t, "rpm", "-qp", "--changelog", rpm), "Release v1.2.0")
	require.Contains(t, said(t, "rpm", "-qp", "--scripts", rpm), "try-restart")

	bill, err := os.ReadFile(filepath.Join(r.dir, "kitt-agent_v1.2.0_linux_"+runtime.GOARCH+".cdx.json"))
	require.NoError(t, err)
	require.Contains(t, string(bill), `"pkg:golang/github.com/spf13/cobra@`)
	require.Contains(t, string(bill), `"timestamp": "2023-11-14T22:13:20Z"`)
	require.Empty(t, strings.TrimSpace(said(t, "lintian", "--fail-on", "error,warning", "--tag-display-limit", "0", "--allow-root", deb)))
}
