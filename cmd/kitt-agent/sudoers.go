package main

import (
	"fmt"
	"strings"

	"github.com/kirizan/kitt-agent/agent/policy"
)

// sudoers returns the rules by which account may mount, as root and without a
// password, what p allows the server to have mounted, and source, the share of
// agent.yaml. mount and mkdir are the programs' paths. The rules use the regular
// expressions of sudoers(5), which sudo has since 1.9.10: a * there would also match
// blanks and slashes.
//
// Of the directories in p.MountDirs only those directly in them are allowed: further
// below, others may be able to put a link.
func sudoers(account, mount, mkdir string, p policy.Policy, source string) string {
	places := choice(p.MountDirs, func(dir string) string { return literal(strings.TrimSuffix(dir, "/")) })
	target := places + "/[A-Za-z0-9_-][A-Za-z0-9._-]*"
	shares := p.Shares
	if shares == nil {
		shares = []string{"*"}
	}
	if source != "" {
		shares = append([]string{source}, shares...)
	}
	var out strings.Builder
	out.WriteString("# Written by: kitt-agent service install --system-user\n# What agent.yaml's policy lets the agent mount, read-only.\n")
	rule := func(program, args string) {
		fmt.Fprintf(&out, "%s ALL=(root) NOPASSWD: %s ^%s$\n", account, program, args)
	}
	options := "-t nfs -o " + literal(mountOptions) + " -- "
	if len(p.MountDirs) > 0 && len(shares) > 0 {
		rule(mount, options+choice(shares, share)+" "+target)
		rule(mkdir, "-- "+target)
	}
	if own := p.Machine.ShareMount; own != "" && len(shares) > 0 {
		rule(mount, options+choice(shares, share)+" "+literal(own))
	}
	return out.String()
}

// choice returns an expression for any of texts.
func choice(texts []string, each func(string) string) string {
	if len(texts) == 1 {
		return each(texts[0])
	}
	parts := make([]string, len(texts))
	for i, text := range texts {
		parts[i] = each(text)
	}
	return "(" + strings.Join(parts, "|") + ")"
}

// share returns an expression for the shares that a pattern of the policy allows.
func share(pattern string) string {
	if pattern == "*" {
		pattern = "*:/*"
	}
	host, dir, _ := strings.Cut(pattern, ":/")
	stars := func(text, any string) string {
		parts := strings.Split(text, "*")
		for i := range parts {
			parts[i] = literal(parts[i])
		}
		return strings.Join(parts, any)
	}
	return stars(host, "[^ /]*") + `\:/` + stars(dir, "[^ ]*")
}

// literal returns an expression for text. Characters that sudoers or its expressions
// give a meaning are escaped; those that no share or directory should have match
// themselves only inside brackets, or not at all.
func literal(text string) string {
	var out strings.Builder
	for _, r := range text {
		switch {
		case r == ',' || r == ':' || r == '=':
			out.WriteString(`\` + string(r))
		case r == '/' || r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r > '\u007f':
			out.WriteRune(r)
		case strings.ContainsRune(".+*?(){}|$@~%&;'<>", r):
			out.WriteString("[" + string(r) + "]")
		default:
			out.WriteString("[$]^") // blanks, quotes, brackets and carets: matches nothing
		}
	}
	return out.String()
}
