package modelset

import (
	"path"
	"slices"
	"strings"
)

// NeedsDirectory reports whether a file of that name is of use only with the whole
// directory that it is in: an index of shards, or a shard in a format whose
// configuration is in further files.
func NeedsDirectory(name string) bool {
	_, part := ParsePart(name)
	return IsIndex(name) || part && !isGGUF(name)
}

// MayHaveCompanions reports whether other files may belong to a file of that name,
// so that Together has to be asked.
func MayHaveCompanions(name string) bool {
	_, part := ParsePart(name)
	return part || IsIndex(name) || isGGUF(name)
}

// Together returns the names in a directory that belong to the file name in it, for
// engines that look for them next to it: the parts of a split file, the shards'
// index, and the projectors (mmproj) of a GGUF file. The first one is what an engine
// is given. A file without companions is returned alone.
func Together(name string, dir []string) []string {
	files := []string{name}
	if p, ok := ParsePart(name); ok {
		have := func(n string) bool { return slices.Contains(dir, n) }
		if parts := slices.DeleteFunc(p.Set.Names(have), func(n string) bool { return !have(n) }); len(parts) > 0 {
			files = parts
		}
	}
	var more []string
	for _, n := range dir {
		if isGGUF(name) && isProjector(n) && !isProjector(name) || NeedsDirectory(name) && NeedsDirectory(n) && !slices.Contains(files, n) {
			more = append(more, n)
		}
	}
	slices.Sort(more)
	return append(files, more...)
}

// FirstParts returns the paths that the first part of the file at rel may have, if
// that is a part of a split file.
func FirstParts(rel string) []string {
	p, ok := ParsePart(path.Base(rel))
	if !ok {
		return nil
	}
	dir := path.Dir(rel)
	return []string{path.Join(dir, p.Set.Name(1)), path.Join(dir, p.Set.Name(0))}
}

func isGGUF(name string) bool { return strings.HasSuffix(strings.ToLower(name), ".gguf") }

// isProjector reports whether a file holds what a multimodal model sees or hears
// with. llama.cpp recognizes it by the same text in its name.
func isProjector(name string) bool {
	return isGGUF(name) && strings.Contains(strings.ToLower(name), "mmproj")
}
