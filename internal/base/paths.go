package base

import "strings"

// Below returns the path of name relative to dir, if it is strictly below it. Both are
// absolute and clean; nothing is below an empty dir.
func Below(dir, name string) (rel string, ok bool) {
	if dir == "" {
		return "", false
	}
	rel, ok = strings.CutPrefix(name, strings.TrimSuffix(dir, "/")+"/")
	if !ok || rel == "" {
		return "", false
	}
	return rel, true
}

// Within reports whether name is dir or below it, as Below has it.
func Within(dir, name string) bool {
	_, below := Below(dir, name)
	return below || dir != "" && dir == name
}
