package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/kirizan/kitt-agent/agent"
)

// A Reference says where the value of a variable is to be had, so that a secret
// need not stand in agent.yaml:
//
//	$NAME        the variable NAME of the agent's own environment
//	file:/path   the content of a file, without blanks around it
//	anything else is the value itself; $$ at its start stands for one $
//
// Printing one shows a reference, but never a value.
type Reference struct {
	raw    agent.Secret
	secret bool
}

// Secret reports whether nobody may see the value: agent.yaml says so, it does not
// stand in agent.yaml, or the variable's name is that of a secret.
func (r Reference) Secret() bool { return r.secret }

// maxReferenced is the longest file that a Reference reads, in bytes.
const maxReferenced = 64 << 10

// IsZero reports whether there is neither a reference nor a value.
func (r Reference) IsZero() bool { return r.raw == "" }

// Literal reports whether the value itself stands in agent.yaml.
func (r Reference) Literal() bool {
	env, file := r.target()
	return env == "" && file == ""
}

// String returns the reference, or a text that is not the value where there is
// no more than the value.
func (r Reference) String() string {
	if r.Literal() {
		return r.raw.String()
	}
	return r.raw.Reveal()
}

// Format writes what String returns, whatever the verb.
func (r Reference) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, r.String()) }

// Resolve returns the value. The error says what is missing.
func (r Reference) Resolve(getenv func(string) string) (agent.Secret, error) {
	env, file := r.target()
	switch {
	case env != "":
		value := getenv(env)
		if value == "" {
			return "", fmt.Errorf("the agent's environment has no %s", env)
		}
		return agent.Secret(value), nil
	case file != "":
		return readSecret(file)
	}
	text := r.raw.Reveal()
	if strings.HasPrefix(text, "$$") {
		text = text[1:]
	}
	return agent.Secret(text), nil
}

// LooksLikeKey reports whether a value in agent.yaml that is not a secret has the
// form of one, such as hf_… and sk-….
func (r Reference) LooksLikeKey() bool {
	return r.Literal() && !r.secret && keyForm.MatchString(r.raw.Reveal())
}

// keyForm matches keys and tokens that services issue, and JSON web tokens.
var keyForm = regexp.MustCompile(`\b(hf_|sk-|gh[opsu]_|github_pat_|glpat-|xox[abp]-|nvapi-|AKIA|AIza|eyJ)[A-Za-z0-9_-]{12,}`)

// target returns the variable or the file that r points to.
func (r Reference) target() (env, file string) {
	text := r.raw.Reveal()
	if strings.HasPrefix(text, "$") && !strings.HasPrefix(text, "$$") {
		return strings.Trim(text[1:], "{}"), ""
	}
	if path, ok := strings.CutPrefix(text, "file:"); ok {
		return "", Expand(path)
	}
	return "", ""
}

// check returns what is wrong with the reference's form.
func (r Reference) check() error {
	env, file := r.target()
	text := r.raw.Reveal()
	switch {
	case strings.ContainsRune(text, 0):
		return errors.New("it holds a NUL character")
	case env != "" && !variableName.MatchString(env):
		return errors.New("what follows $ is no name of a variable; a $ itself is written $$")
	case env == "" && strings.HasPrefix(text, "$") && !strings.HasPrefix(text, "$$"):
		return errors.New("no name follows the $; a $ itself is written $$")
	case file != "" && !filepath.IsAbs(file):
		return errors.New("the file's path is not absolute")
	}
	return nil
}

// readSecret returns the content of a file that holds one secret.
func readSecret(path string) (agent.Secret, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxReferenced+1))
	if err != nil {
		return "", err
	}
	if len(text) > maxReferenced {
		return "", fmt.Errorf("%s is longer than %d bytes", path, maxReferenced)
	}
	return agent.Secret(strings.TrimSpace(string(text))), nil
}
