package beneath

import (
	"path"
	"path/filepath"
	"strings"
)

// IsClean reports whether p is a relative path in its shortest form that leads
// downwards.
func IsClean(p string) bool {
	return p != "" && p != "." && p != ".." && !strings.HasPrefix(p, "/") && !strings.HasPrefix(p, "../") &&
		path.Clean(p) == p && !strings.ContainsRune(p, 0)
}

// Inside reports whether rel is dir or below it. Both are relative and clean.
func Inside(dir, rel string) bool {
	return dir == "." || rel == dir || strings.HasPrefix(rel, dir+"/")
}

// StaysBelow reports whether the text of a symbolic link leads to something in
// the same tree without leaving it on the way. The link is in a directory depth
// levels below the top of the tree. A ".." after another component is not
// trusted, since that component may be a link.
func StaysBelow(depth int, target string) bool {
	if target == "" || path.IsAbs(target) {
		return false
	}
	climbing := true
	for part := range strings.SplitSeq(target, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; !climbing || depth < 0 {
				return false
			}
		default:
			climbing = false
		}
	}
	return true
}

// RelativeLink returns the text of a link in directory dir that leads to target.
// Both are relative to the same tree.
func RelativeLink(dir, target string) string {
	text, err := filepath.Rel(dir, target)
	if err != nil {
		return target // cannot happen: both are relative and clean
	}
	return text
}
