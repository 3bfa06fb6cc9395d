package runnertest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// fakeKitt is the package of the program that plays kitt.
const fakeKitt = "github.com/kirizan/kitt-agent/runner/runnertest/fakekitt"

// BuildFakeKitt builds the program that plays the kitt command into dir, by the
// name of kitt, and returns its path. It uses the go command on the PATH and
// links the program statically, so that it also runs in an empty container. The
// name of the model steers it; its package comment has the words.
func BuildFakeKitt(dir string) (string, error) {
	path := filepath.Join(dir, "kitt")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, fakeKitt)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w: %s", fakeKitt, err, out)
	}
	return path, nil
}
