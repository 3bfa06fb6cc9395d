package config

import (
	"fmt"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// An Error is a setting that makes no sense, or a file that cannot be read.
type Error struct {
	File    string // or the flag or variable that the value comes from
	Line    int    // 0 where there is none
	Key     string // empty if the file as a whole is meant
	Problem string
	Fix     string // what to do; may be empty
}

// Error returns one sentence: where, what, and what to do.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	if e.Key != "" {
		b.WriteString(": " + e.Key)
	}
	b.WriteString(": " + e.Problem)
	if e.Fix != "" {
		b.WriteString("; " + e.Fix)
	}
	return b.String()
}

// userinfo is the user name and password of an address.
var userinfo = regexp.MustCompile(`//.*@`)

// newError returns what is wrong with the value of key. A secret's value is not
// shown, nor is a password in an address.
func newError(where string, line int, key *Key, value *yaml.Node, problem error) *Error {
	text := problem.Error()
	if value.Kind == yaml.ScalarNode && !key.Secret && value.Value != "" {
		text = fmt.Sprintf("%q does not work: %s", shown(value.Value), text)
	}
	return &Error{File: where, Line: line, Key: key.Name, Problem: text, Fix: "allowed is " + key.Allowed}
}

// shown returns a value as errors show it: not too long, and without a password.
func shown(value string) string {
	value = userinfo.ReplaceAllString(value, "//…@")
	if len(value) > maxUnknown {
		value = value[:maxUnknown] + "…"
	}
	return value
}
