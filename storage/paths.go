package storage

import (
	"io/fs"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// Everything about which paths may be named, followed and written is in this
// file. A path inside the share or the storage directory is relative, in
// path.Clean's form and without symbolic links once resolveIn has seen it; what
// is then opened is opened beneath its root by the kernel (openat2, or os.Root),
// so that a link made meanwhile leads nowhere either.

const (
	maxModelName = 4096 // bytes, PATH_MAX
	maxLinks     = 40   // links followed for one path, as in the kernel
	maxDepth     = 100  // directories below each other in one model

	ownDir     = ".kitt"       // in the storage directory: what we know about it
	partPrefix = ".kitt-part-" // beside a target: its copy while it is made
	gonePrefix = ".kitt-gone-" // beside a target: its copy while it is removed
)

// cleanupAll is the word that the KITT server sends in place of a model when
// every copy is to go.
const cleanupAll = "__cleanup__"

// identifierPattern is what names of models look like that engines fetch
// themselves: qwen2.5:7b, org/model, hf.co/org/model:Q4_K_M.
var identifierPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*){0,3}(:[A-Za-z0-9._-]+)?$`)

// weightFile matches names of files that hold weights; they are never an
// identifier.
var weightFile = regexp.MustCompile(`(?i)\.(gguf|ggml|safetensors|bin|pt|pth|onnx)$`)

// A modelName is what a request asks for, taken apart.
type modelName struct {
	text  string   // as it was asked for
	abs   string   // its absolute path, cleaned; empty if it is relative
	parts []string // its components, at least one, none of them "", "." or ".."
}

// parseModel takes the name of a model apart. It refuses what names no model.
func parseModel(text, home string) (modelName, error) {
	name := modelName{text: text}
	const remedy = "name a model's directory or file, or an identifier such as org/model"
	if text == "" || text == cleanupAll {
		return name, fail(ClassInvalid, remedy, "%q names no model", text)
	}
	if len(text) > maxModelName || strings.ContainsRune(text, 0) {
		return name, fail(ClassInvalid, remedy, "the model's name has %d bytes or a zero byte in it", len(text))
	}
	expanded := expandHome(text, home)
	for part := range strings.SplitSeq(expanded, "/") {
		switch part {
		case "", ".":
		case "..":
			return name, fail(ClassEscape, "write the path without ..", "model %q leads upwards", text)
		default:
			name.parts = append(name.parts, part)
		}
	}
	if len(name.parts) == 0 {
		return name, fail(ClassInvalid, remedy, "%q names no model", text)
	}
	if strings.HasPrefix(expanded, "/") {
		name.abs = "/" + strings.Join(name.parts, "/")
	}
	return name, nil
}

// expandHome puts the home directory in the place of a leading ~.
func expandHome(p, home string) string {
	if home != "" && (p == "~" || strings.HasPrefix(p, "~/")) {
		return home + p[1:]
	}
	return p
}

// rel returns the name's components as a relative path.
func (n modelName) rel() string { return strings.Join(n.parts, "/") }

// identifier reports whether an engine may know the name.
func (n modelName) identifier() bool {
	return n.abs == "" && identifierPattern.MatchString(n.text) && !weightFile.MatchString(n.text)
}

// below returns the path of abs relative to dir, if it is strictly below it.
func below(dir, abs string) (string, bool) {
	if dir == "" || abs == "" {
		return "", false
	}
	rel, ok := strings.CutPrefix(abs, strings.TrimSuffix(dir, "/")+"/")
	if !ok || rel == "" {
		return "", false
	}
	return rel, true
}

// inside reports whether rel is dir or below it, both being relative.
func inside(dir, rel string) bool {
	return dir == "." || rel == dir || strings.HasPrefix(rel, dir+"/")
}

// reserved reports whether a path below the storage directory is one of ours.
func reserved(rel string) bool {
	for part := range strings.SplitSeq(rel, "/") {
		if strings.HasPrefix(part, partPrefix) || strings.HasPrefix(part, gonePrefix) {
			return true
		}
	}
	return inside(ownDir, rel)
}

// candidates lists where on the share the model may be, best first, and whether
// it may be searched for by its name as well.
//
// A name that says where on the share the model is, or that an engine may know,
// means just that: another model with the same last name is not it. From other
// paths, such as those of another machine, leading components are taken away
// one at a time. inPlace says that the path exists on this machine; then its
// last component alone proves nothing.
func (n modelName) candidates(dir, mount string, inPlace bool) (paths []string, search bool) {
	for _, base := range []string{mount, dir} {
		if rel, ok := below(base, n.abs); ok {
			return []string{rel}, !strings.Contains(rel, "/")
		}
	}
	if n.identifier() {
		return []string{n.rel()}, len(n.parts) == 1 && !strings.Contains(n.text, ":")
	}
	for i := range n.parts {
		if inPlace && i == len(n.parts)-1 {
			break
		}
		paths = append(paths, strings.Join(n.parts[i:], "/"))
	}
	return paths, !inPlace
}

// A linkReader is the part of os.Root that resolveIn needs.
type linkReader interface {
	Lstat(name string) (fs.FileInfo, error)
	Readlink(name string) (string, error)
}

// resolveIn follows every symbolic link in rel, which is relative to root, and
// returns the path without links. Absolute links are understood if they lead
// below one of the places where root is seen. Leading out of root is an error of
// [ClassEscape]. If a component is missing the error matches fs.ErrNotExist and
// the path is the resolved part with the rest, cleaned, behind it.
func resolveIn(root linkReader, seenAt []string, rel string) (string, error) {
	var done []string
	todo := strings.Split(rel, "/")
	links := 0
	for len(todo) > 0 {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			if len(done) == 0 {
				return "", escapes(rel)
			}
			done = done[:len(done)-1]
			continue
		}
		at := strings.Join(append(done, part), "/")
		info, err := root.Lstat(at)
		if err != nil {
			rest := path.Join(append([]string{at}, todo...)...)
			if rest == ".." || strings.HasPrefix(rest, "../") {
				return "", escapes(rel)
			}
			return rest, err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			done = append(done, part)
			continue
		}
		if links++; links > maxLinks {
			return "", fail(ClassLoop, "remove the link that leads back to itself", "%q has more than %d symbolic links in it", rel, maxLinks)
		}
		target, err := root.Readlink(at)
		if err != nil {
			return "", err
		}
		if path.IsAbs(target) {
			target, err = mapAbsolute(target, seenAt)
			if err != nil {
				return "", escapes(rel)
			}
			done = nil
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	if len(done) == 0 {
		return ".", nil
	}
	return strings.Join(done, "/"), nil
}

// mapAbsolute makes an absolute link's target relative to the root that is seen
// at seenAt. The prefix is compared as text before any "..", which stay in.
func mapAbsolute(target string, seenAt []string) (string, error) {
	for _, base := range seenAt {
		if base == "" {
			continue
		}
		if target == base {
			return ".", nil
		}
		if rel, ok := strings.CutPrefix(target, strings.TrimSuffix(base, "/")+"/"); ok {
			return rel, nil
		}
	}
	return "", fs.ErrInvalid
}

func escapes(rel string) error {
	return fail(ClassEscape, "put the files themselves there, or name the place that the link leads to", "%q leads out of its directory", rel)
}

// staysBelow reports whether a symbolic link's text, seen from a directory that
// is depth levels below the top of a tree, names something in that tree without
// leaving it on the way. Components before a ".." are not trusted.
func staysBelow(depth int, target string) bool {
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

// relativeLink returns the text of a link in directory dir that leads to target,
// both relative to the same tree.
func relativeLink(dir, target string) string {
	text, err := filepath.Rel(dir, target)
	if err != nil {
		return target // both are relative and clean: it cannot happen
	}
	return text
}
