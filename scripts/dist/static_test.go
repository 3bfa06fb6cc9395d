package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// A program that is built without cgo runs on any Linux: it asks for no dynamic
// linker.
func TestStaticProgramsHaveNoInterpreter(t *testing.T) {
	if os.Getenv("KITT_TEST_STATIC") != "1" {
		t.Skip("SKIPPED because it builds two programs; KITT_TEST_STATIC=1 has it run")
	}
	for _, arch := range arches {
		program := filepath.Join(t.TempDir(), "kitt-agent")
		cmd := exec.Command("go", "build", "-o", program, "../../cmd/kitt-agent")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.NoError(t, checkProgram(program, false), arch)
		require.ErrorContains(t, checkProgram(program, true), "without NVML", arch)
	}
}

// A program with an interpreter is not released as a static one. The shell has one
// on most systems.
func TestDynamicProgramIsNotStatic(t *testing.T) {
	program, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("SKIPPED because there is no sh: ", err)
	}
	if err = checkProgram(program, false); err == nil {
		t.Skip("SKIPPED because sh is static here")
	}
	require.ErrorContains(t, err, "it has an interpreter")
}
