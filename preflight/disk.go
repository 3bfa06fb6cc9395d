package preflight

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// MinDisk is the free space that a machine should have for models: 50 GiB, in the
// units in which KITT counts gigabytes.
const MinDisk = 50 << 30

// DiskSpace looks whether the file system of dir, which need not exist yet, has
// at least MinDisk free.
func DiskSpace(dir string) Check {
	return Func{Label: "disk space", Do: func(context.Context) Result {
		return Space(dir, MinDisk, "remove models that are no longer needed, or set model_storage_dir to a larger disk")
	}}
}

// Space looks whether the file system of dir, which need not exist yet, has at
// least want bytes free; fix says what to do if not. It may hang on a dead
// network share.
func Space(dir string, want int64, fix string) Result {
	at, err := existing(dir)
	if err != nil {
		return Result{Status: Warn, Details: plainError(err)}
	}
	free, err := freeSpace(at)
	if err != nil {
		return Result{Status: Warn, Details: fmt.Sprintf("the free space at %s cannot be told: %s", at, plainError(err))}
	}
	details := fmt.Sprintf("%.1f GB free at %s", float64(free)/(1<<30), at)
	if free < want {
		return Result{Status: Warn, Details: fmt.Sprintf("%s, less than %d GB", details, want>>30), Fix: fix}
	}
	return Result{Status: OK, Details: details}
}

// existing returns dir or the nearest directory above it that exists.
func existing(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for {
		_, err := os.Stat(dir)
		if err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if !errors.Is(err, fs.ErrNotExist) || parent == dir {
			return "", err
		}
		dir = parent
	}
}
