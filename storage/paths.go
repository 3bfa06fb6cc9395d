package storage

import (
	"regexp"
	"strings"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/storage/internal/beneath"
	"github.com/kirizan/kitt-agent/storage/internal/modelset"
)

// Which paths a request may name, and where the storage looks for them. Package
// beneath follows and opens the paths, and never leaves the share or the storage
// directory.

const (
	maxModelName = 4096 // bytes, PATH_MAX

	ownDir     = ".kitt"       // in the storage directory: its state; see modelDir
	partPrefix = ".kitt-part-" // next to a copy: its stage
	gonePrefix = ".kitt-gone-" // next to a copy: its trash
)

// cleanupAll is what the KITT server sends in place of a model to have every copy
// removed.
const cleanupAll = "__cleanup__"

// identifierPattern matches names of models that engines fetch themselves:
// qwen2.5:7b, org/model, hf.co/org/model:Q4_K_M.
var identifierPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*){0,3}(:[A-Za-z0-9._-]+)?$`)

// A modelName is the parsed name of a model in a request.
type modelName struct {
	text  string   // as requested
	abs   string   // its absolute path, cleaned; empty if it is relative
	parts []string // its components, at least one, none of them "", "." or ".."
}

// parseModel parses the name of a model. It rejects a name that cannot be one.
func parseModel(text, home string) (modelName, error) {
	name := modelName{text: text}
	const remedy = "name a model's directory or file, or an identifier such as org/model"
	if text == "" || text == cleanupAll {
		return name, fault.New(ClassInvalid, remedy, "%q is not a model's name", text)
	}
	if len(text) > maxModelName || strings.ContainsRune(text, 0) {
		return name, fault.New(ClassInvalid, remedy, "the model's name has %d bytes or a zero byte in it", len(text))
	}
	expanded := expandHome(text, home)
	for part := range strings.SplitSeq(expanded, "/") {
		switch part {
		case "", ".":
		case "..":
			return name, fault.New(ClassEscape, "write the path without ..", "model %q leads upwards", text)
		default:
			name.parts = append(name.parts, part)
		}
	}
	if len(name.parts) == 0 {
		return name, fault.New(ClassInvalid, remedy, "%q is not a model's name", text)
	}
	if strings.HasPrefix(expanded, "/") {
		name.abs = "/" + strings.Join(name.parts, "/")
	}
	return name, nil
}

// expandHome replaces a leading ~ by the home directory.
func expandHome(p, home string) string {
	if home != "" && (p == "~" || strings.HasPrefix(p, "~/")) {
		return home + p[1:]
	}
	return p
}

// rel returns the name's components as a relative path.
func (n modelName) rel() string { return strings.Join(n.parts, "/") }

// identifier reports whether the name may be one that an engine knows.
func (n modelName) identifier() bool {
	return n.abs == "" && identifierPattern.MatchString(n.text) && !modelset.Weights(n.text)
}

// tagged reports whether the name can only be one that an engine knows, such as
// qwen2.5:7b. No container could mount a path with a colon.
func (n modelName) tagged() bool { return n.identifier() && strings.Contains(n.text, ":") }

// reserved reports whether a path below the storage directory is for the storage's
// own files.
func reserved(rel string) bool {
	for part := range strings.SplitSeq(rel, "/") {
		if strings.HasPrefix(part, partPrefix) || strings.HasPrefix(part, gonePrefix) {
			return true
		}
	}
	return beneath.Inside(ownDir, rel)
}

// candidates lists where on the share the model may be, best first, and whether
// the share may be searched for its last component, too.
//
// A name that says where on the share the model is, or that an engine may know,
// means exactly that: another model with the same last component is not it. Other
// paths, such as those of another machine, are tried without their leading
// components, one less at a time. inPlace means that the path exists on this
// machine; then its last component alone proves nothing.
func (n modelName) candidates(dir, mount string, inPlace bool) (paths []string, search bool) {
	for _, top := range []string{mount, dir} {
		if rel, ok := base.Below(top, n.abs); ok {
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
