package preflight

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// MinDisk is the free space that a machine should have for models, in bytes:
// 50 GiB, which KITT calls 50 GB.
const MinDisk = 50 << 30

// DiskSpace checks that the file system of dir has at least MinDisk free. dir need
// not exist.
func DiskSpace(dir string) Check {
	return Func{Label: "disk space", Do: func(context.Context) Result {
		return Space(dir, MinDisk, "remove models that are no longer needed, or set model_storage_dir to a larger disk")
	}}
}

// Space returns whether the file system of dir has at least want bytes free. dir
// need not exist. If there is less space, the Result is a warning with the given
// Fix. Space can hang on a dead network share.
func Space(dir string, want int64, fix string) Result {
	at, err := existing(dir)
	if err != nil {
		return Result{Status: Warn, Details: plainError(err)}
	}
	free, err := freeSpace(at)
	if err != nil {
		return Result{Status: Warn, Details: fmt.Sprintf("the free space at %s cannot be read: %s", at, plainError(err))}
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
