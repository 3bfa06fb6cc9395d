package selfupdate

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/semver"
)

// canonical returns a version as package semver wants it.
func canonical(version string) string {
	if !strings.HasPrefix(version, "v") {
		version = "v" + version
	}
	return version
}

// Compare returns -1 if version a is older than b, 0 if they are the same and 1
// if a is newer. ok is false if one of them is no semantic version, as that of a
// program built without one.
func Compare(a, b string) (order int, ok bool) {
	if a == b {
		return 0, true
	}
	a, b = canonical(a), canonical(b)
	if !semver.IsValid(a) || !semver.IsValid(b) {
		return 0, false
	}
	return semver.Compare(a, b), true
}

// maxVersion is the longest version, in bytes.
const maxVersion = 128

// parseVersion reads the file VERSION.
func parseVersion(text []byte) (string, error) {
	version := strings.TrimSuffix(string(text), "\n")
	if len(version) > maxVersion || !semver.IsValid(canonical(version)) {
		return "", errors.New("its VERSION is no semantic version")
	}
	return version, nil
}

// A NotNewerError says that a package holds no newer version than is installed.
type NotNewerError struct {
	Installed, Offered string
	Same               bool // whether it holds the very same version
}

// Error returns one sentence.
func (e *NotNewerError) Error() string {
	if e.Same {
		return fmt.Sprintf("version %s is installed already", e.Installed)
	}
	return fmt.Sprintf("version %s is older than %s, which is installed", e.Offered, e.Installed)
}

// Newer returns nil if offered may replace installed without more ado: it is
// newer, or nobody can tell. The error is a [*NotNewerError].
func Newer(installed, offered string) error {
	order, ok := Compare(offered, installed)
	if !ok || order > 0 {
		return nil
	}
	return &NotNewerError{Installed: installed, Offered: offered, Same: order == 0}
}
