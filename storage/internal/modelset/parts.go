package modelset

import (
	"fmt"
	"iter"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
)

// MaxParts is the largest number of parts of one file that counts as one. Larger
// numbers are part of a name.
const MaxParts = 9999

var partPattern = regexp.MustCompile(`^(.*)-([0-9]{5,6})-of-([0-9]{5,6})(\.[^/]*)$`)

// A Part is the name of one part of a file that was split, as llama.cpp and Hugging
// Face name them: weights-00001-of-00003.gguf.
type Part struct {
	Set    Set
	Number int // 1 to Count; some tools begin with 0
}

// A Set is what the names of all parts of one file have in common.
type Set struct {
	prefix, suffix string
	Count          int
	width          [2]int // digits of Number and Count
}

// ParsePart returns the part that a file's name says it is.
func ParsePart(name string) (p Part, ok bool) {
	m := partPattern.FindStringSubmatch(name)
	if m == nil {
		return p, false
	}
	number, err := strconv.Atoi(m[2])
	count, err2 := strconv.Atoi(m[3])
	if err != nil || err2 != nil || count < 1 || count > MaxParts || number > count {
		return p, false
	}
	return Part{Set{m[1], m[4], count, [2]int{len(m[2]), len(m[3])}}, number}, true
}

// Name returns the name of one of the set's parts.
func (s Set) Name(number int) string {
	return fmt.Sprintf("%s-%0*d-of-%0*d%s", s.prefix, s.width[0], number, s.width[1], s.Count, s.suffix)
}

// numbers returns the numbers of the first and last part. zero tells whether there
// is a part 0.
func (s Set) numbers(zero bool) (first, last int) {
	if zero {
		return 0, s.Count - 1
	}
	return 1, s.Count
}

// Names returns the names of all parts, the first one first. have tells which names
// exist.
func (s Set) Names(have func(name string) bool) (names []string) {
	first, last := s.numbers(have(s.Name(0)))
	for n := first; n <= last; n++ {
		names = append(names, s.Name(n))
	}
	return names
}

// MissingParts returns the paths, sorted, of parts that are missing among files,
// which are the paths of a model's files.
func MissingParts(files iter.Seq[string]) (missing []string) {
	type key struct {
		dir string
		set Set
	}
	sets := map[key]map[int]bool{}
	for at := range files {
		p, ok := ParsePart(path.Base(at))
		if !ok {
			continue
		}
		k := key{path.Dir(at), p.Set}
		if sets[k] == nil {
			sets[k] = map[int]bool{}
		}
		sets[k][p.Number] = true
	}
	for k, have := range sets {
		first, last := k.set.numbers(have[0])
		for n := first; n <= last; n++ {
			if !have[n] {
				missing = append(missing, path.Join(k.dir, k.set.Name(n)))
			}
		}
	}
	slices.Sort(missing)
	return missing
}

// Weights reports whether a file of that name has weights in it.
func Weights(name string) bool { return weightFile.MatchString(name) }

// weightFile matches names of files with weights.
var weightFile = regexp.MustCompile(`(?i)\.(gguf|ggml|safetensors|bin|pt|pth|onnx)$`)

// sorted returns the keys of a set of names, sorted.
func sorted(names map[string]bool) []string { return slices.Sorted(maps.Keys(names)) }
