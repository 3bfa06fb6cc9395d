// Package rules says which settings make sense. The agent's Config, the settings
// that its server sends and the program's settings file are checked by the same
// rules, so that none of them accepts what another rejects.
//
// Each rule returns an error without the setting's name and value, which its caller
// knows.
package rules

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// MaxJobs is how many benchmarks may run at once at most: on one machine a few, on a
// cluster as many as its partition has room for.
const MaxJobs = 1024

// Name is the rule for an agent's name.
func Name(name string) error {
	switch {
	case strings.TrimSpace(name) == "":
		return errors.New("it is empty")
	case strings.Contains(name, "/"):
		return errors.New("it has a slash, which the server's addresses cannot carry")
	}
	return nil
}

// Token is the rule for the tokens of an agent and its server. Anything else cannot
// be sent in a header; a server token outside ASCII even makes the server fail.
func Token(token string) error {
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("it holds blanks or characters outside printable ASCII")
	}
	return nil
}

// Host is the rule for a name in a Host header: a host name or an address.
func Host(name string) error {
	if _, err := netip.ParseAddr(name); err == nil {
		return nil
	}
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || strings.ContainsRune(":/@*[]", r) }) {
		return fmt.Errorf("%q is not a host name; write it without a scheme and a port", name)
	}
	return nil
}

// Path is the rule for a file or directory.
func Path(p string) error {
	switch {
	case strings.ContainsFunc(p, unicode.IsControl):
		return errors.New("it holds control characters")
	case p != "~" && !strings.HasPrefix(p, "~/") && !filepath.IsAbs(p):
		return errors.New("it is relative, so what it names would depend on where the agent is started")
	case slices.Contains(strings.Split(p, "/"), ".."):
		return errors.New("it has .. in it")
	case filepath.Clean(p) == "/":
		return errors.New("it is the root of the file system")
	}
	return nil
}

// Share is the rule for a share that models are copied from.
func Share(source string) error {
	host, dir, ok := strings.Cut(source, ":/")
	if !ok || host == "" || strings.HasPrefix(host, "-") || strings.ContainsFunc(host+dir, func(r rune) bool {
		return unicode.IsControl(r) || unicode.IsSpace(r)
	}) {
		return errors.New("it is not of the form host:/directory")
	}
	return nil
}

// imagePattern is the form of an image reference, as strict as Docker's where
// that matters: repositories have no capital letters.
var imagePattern = regexp.MustCompile(
	`^([A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]+)?/)?[a-z0-9]+([._/-]+[a-z0-9]+)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?$`)

// Image is the rule for a container image.
func Image(image string) error {
	if len(image) > 512 || !imagePattern.MatchString(image) {
		return errors.New("it is no image reference")
	}
	return nil
}

// ImagePattern is the rule for a pattern of images that a server may choose.
func ImagePattern(pattern string) error {
	if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
		return fmt.Errorf("%q is no pattern", pattern)
	}
	return nil
}
