package main

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// maxSize is how large the program may be, in bytes: released ones hold it. What it does
// on a node of a Slurm cluster takes half a megabyte of it.
const maxSize = 3_000_000

// TestProgramIsSmall builds the program for both architectures as releases do.
// It is static, and links neither the network nor users.
func TestProgramIsSmall(t *testing.T) {
	t.Parallel()
	deps, err := exec.Command("go", "list", "-deps", ".").Output()
	require.NoError(t, err)
	for dep := range strings.FieldsSeq(string(deps)) {
		require.NotContains(t, []string{"net", "os/user", "net/http", "crypto/tls"}, dep)
	}
	for _, arch := range []string{"amd64", "arm64"} {
		path := filepath.Join(t.TempDir(), "kitt-supervise")
		build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
		out, err := build.CombinedOutput()
		require.NoError(t, err, string(out))
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.LessOrEqual(t, info.Size(), int64(maxSize), arch)
		program, err := elf.Open(path)
		require.NoError(t, err)
		require.Nil(t, program.Section(".interp"), "it is static")
		require.NoError(t, program.Close())
	}
}
