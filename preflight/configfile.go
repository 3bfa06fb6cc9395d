package preflight

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// readSome returns the first bytes of a file.
func readSome(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := make([]byte, 512)
	n, err := f.Read(b)
	return string(b[:n]), err
}

// ConfigFile checks that only the owner can read the agent's configuration file,
// which holds its tokens.
func ConfigFile(path string) Check {
	return Func{Label: "configuration", Do: func(context.Context) Result {
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return Result{Status: Skip, Details: path + " does not exist yet", Fix: "kitt-agent init --server https://HOST:8080"}
		case err != nil:
			return Result{Status: Warn, Details: plainError(err)}
		case !info.Mode().IsRegular():
			return Result{Status: Warn, Details: path + " is not a file"}
		}
		if _, err := readSome(path); errors.Is(err, fs.ErrPermission) {
			return Result{Status: Warn, Details: "no permission to read " + path, Fix: "sudo chown $(id -u) " + path}
		}
		if mode := info.Mode().Perm(); mode&0o077 != 0 && unixModes {
			return Result{Status: Warn, Details: fmt.Sprintf("%s has mode %04o: other users can read its tokens", path, mode), Fix: "chmod 600 " + path}
		}
		return Result{Status: OK, Details: "only its owner can read " + path}
	}}
}
