package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/kirizan/kitt-agent/internal/base"
)

// maxFile is the longest agent.yaml that is read, in bytes, and maxUnknown how
// much of an unknown key is shown.
const (
	maxFile    = 1 << 20
	maxUnknown = 64
)

// A File is an agent.yaml. Comments, the order of keys and keys that are unknown
// stay as they are when it is changed and saved.
type File struct {
	path    string
	mode    fs.FileMode // as found; 0 for a new file
	doc     *yaml.Node
	changed bool // whether Set gave a key another value
}

// Open reads the file at path. The error matches fs.ErrNotExist if there is
// none, and is otherwise an [*Error].
func Open(path string) (*File, error) {
	// A pipe that nobody writes to would otherwise be waited for, through every
	// signal that asks the command to end.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fileError(path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fileError(path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fileError(path, errors.New("it is not a plain file"))
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fileError(path, err)
	}
	if len(text) > maxFile {
		return nil, fileError(path, fmt.Errorf("it is longer than %d bytes", maxFile))
	}
	file, err := parse(path, text)
	if err != nil {
		return nil, err
	}
	file.mode = info.Mode().Perm()
	return file, nil
}

// New returns an empty file that Save will write to path.
func New(path string) *File {
	return &File{path: path, doc: &yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{{Kind: yaml.MappingNode, Tag: "!!map"}}}}
}

// fileError keeps a missing file recognisable, and otherwise says what to do.
func fileError(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fix := "mend the file, or make a new one with kitt-agent init --force"
	if errors.Is(err, fs.ErrPermission) {
		fix = "run the command as the user who owns the file"
	}
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathErr.Err
	}
	return &Error{File: path, Problem: err.Error(), Fix: fix}
}

// parse reads text as the content of the file at path.
func parse(path string, text []byte) (*File, error) {
	file := New(path)
	if !utf8.Valid(text) {
		return nil, &Error{File: path, Problem: "it is not a text in UTF-8",
			Fix: "save it as UTF-8, or make a new one with kitt-agent init --force"}
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, &Error{File: path, Problem: strings.TrimPrefix(err.Error(), "yaml: "),
			Fix: "mend the YAML there, or make a new file with kitt-agent init --force"}
	}
	switch {
	case doc.Kind == 0: // an empty file, or one of comments only
		file.doc.HeadComment = strings.TrimSpace(string(text))
		return file, nil
	case doc.Content[0].Tag == "!!null":
		doc.Content = file.doc.Content
	}
	file.doc = &doc
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, &Error{File: path, Line: root.Line, Problem: "the file is not a list of keys and values",
			Fix: "each line should read key: value; kitt-agent init --force makes a new file"}
	}
	var faults []error
	for name, lines := range duplicates(root, "") {
		faults = append(faults, &Error{File: path, Line: lines[1], Key: name,
			Problem: fmt.Sprintf("it stands on line %d already", lines[0]), Fix: "remove one of the two"})
	}
	return file, errors.Join(faults...)
}

// duplicates returns the keys that stand more than once in a map of the file,
// with their lines. prefix is what the map's own keys begin with.
func duplicates(m *yaml.Node, prefix string) map[string][]int {
	lines := map[string][]int{}
	for i := 0; i+1 < len(m.Content); i += 2 {
		name, value := prefix+m.Content[i].Value, m.Content[i+1]
		lines[name] = append(lines[name], m.Content[i].Line)
		if nested(name) && value.Kind == yaml.MappingNode {
			maps.Copy(lines, duplicates(value, name+"."))
		}
	}
	for name, at := range lines {
		if len(at) < 2 {
			delete(lines, name)
		}
	}
	return lines
}

// Path returns where the file is, or will be.
func (f *File) Path() string { return f.path }

// entry is one key of the file with its value.
type entry struct {
	name  string // with a dot for nesting
	line  int
	value *yaml.Node
}

// entries returns all keys of the file. What is nested is taken apart where the
// known keys are.
func (f *File) entries() []entry { return entriesOf(f.doc.Content[0], "") }

// entriesOf returns the keys of a map whose names begin with prefix.
func entriesOf(m *yaml.Node, prefix string) (all []entry) {
	for i := 0; i+1 < len(m.Content); i += 2 {
		name, value := prefix+m.Content[i].Value, follow(m.Content[i+1])
		if nested(name) && value.Kind == yaml.MappingNode {
			all = append(all, entriesOf(value, name+".")...)
			continue
		}
		all = append(all, entry{name, m.Content[i].Line, value})
	}
	return all
}

// follow returns what an alias stands for.
func follow(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// apply sets what the file says in c.
func (f *File) apply(c *Config) (warnings []string, err error) {
	var faults []error
	for _, e := range f.entries() {
		key := findKey(e.name)
		if key == nil {
			if nested(e.name) {
				// A group is a map. One with nothing in it is fine; limits that are
				// written in another way must not go unnoticed.
				if e.value.Tag != "!!null" {
					faults = append(faults, &Error{File: f.path, Line: e.line, Key: e.name, Problem: "it is not a map of settings",
						Fix: fmt.Sprintf("write its settings below it, as in %s: {%s: …}", e.name, firstBelow(e.name))})
				}
				continue
			}
			warnings = append(warnings, f.unknown(e))
			continue
		}
		if err := key.set(c, e.value); err != nil {
			faults = append(faults, newError(f.path, e.line, key, e.value, err))
			continue
		}
		if e.value.Kind != yaml.ScalarNode || e.value.Value != "" && e.value.Tag != "!!null" {
			c.note(key, e.value, fmt.Sprintf("%s:%d", f.path, e.line))
		}
	}
	if f.mode&0o077 != 0 && (c.Token != "" || c.ServerToken != "") {
		warnings = append(warnings, fmt.Sprintf(
			"%s holds a token and others can read it (mode %04o); run: chmod 600 %s", f.path, f.mode, f.path))
	}
	return warnings, errors.Join(faults...)
}

func (f *File) unknown(e entry) string {
	name := e.name
	if len(name) > maxUnknown {
		name = name[:maxUnknown] + "…"
	}
	text := fmt.Sprintf("%s:%d: unknown key %q is ignored", f.path, e.line, name)
	var names []string
	for _, k := range keys {
		names = append(names, k.Name)
	}
	if meant := suggest(e.name, names); meant != "" {
		text += fmt.Sprintf("; did you mean %s?", meant)
	}
	return text
}

// Has reports whether the file names the key.
func (f *File) Has(name string) bool {
	return slices.ContainsFunc(f.entries(), func(e entry) bool { return e.name == name })
}

// Changed reports whether the file on disk is to be written: it is new, a key got
// another value, or others may read it.
func (f *File) Changed() bool { return f.changed || f.mode == 0 || f.mode&0o077 != 0 }

// Set gives a key a value, in place of the one it has. Nothing changes if the
// value isn't allowed; the error says what is.
func (f *File) Set(name, value string) error {
	key := findKey(name)
	if key == nil {
		return &Error{File: f.path, Key: name, Problem: "there is no such key"}
	}
	node := &yaml.Node{Kind: yaml.ScalarNode, Value: value}
	if err := key.set(&Config{}, node); err != nil {
		return newError(f.path, 0, key, node, err)
	}
	var plain yaml.Node
	// What reads as a text unquoted stays unquoted, numbers and booleans too;
	// the encoder quotes the rest.
	if err := plain.Encode(value); err != nil {
		return err
	}
	if key.plain(value) {
		plain = *node
	}
	parent := f.doc.Content[0]
	for outer, inner, ok := strings.Cut(name, "."); ok; outer, inner, ok = strings.Cut(name, ".") {
		parent, name = group(parent, outer), inner
	}
	for i := 0; i+1 < len(parent.Content); i += 2 {
		if parent.Content[i].Value == name {
			old := parent.Content[i+1]
			if now := follow(old); now.Kind == yaml.ScalarNode && now.Value == value && now.ShortTag() != "!!null" {
				return nil
			}
			f.changed = true
			plain.HeadComment, plain.LineComment, plain.FootComment = old.HeadComment, old.LineComment, old.FootComment
			parent.Content[i+1] = &plain
			return nil
		}
	}
	f.changed = true
	parent.Content = append(parent.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name}, &plain)
	return nil
}

// plain reports whether value is written without quotes: for keys of numbers
// and booleans, and what no reader takes for one.
func (k *Key) plain(value string) bool {
	switch k.Name {
	case "port", "max_concurrent_jobs", "heartbeat_interval_s", "auto_cleanup", "require_client_cert":
		return true
	}
	return false
}

// group returns the map under the given name, which it makes if need be.
func group(root *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(root.Content); i += 2 {
		if root.Content[i].Value != name {
			continue
		}
		if root.Content[i+1].Kind != yaml.MappingNode {
			root.Content[i+1] = &yaml.Node{Kind: yaml.MappingNode}
		}
		return root.Content[i+1]
	}
	made := &yaml.Node{Kind: yaml.MappingNode}
	root.Content = append(root.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name}, made)
	return made
}

// Save writes the file, readable by its owner only, unless it is as it was found.
// It appears whole or not at all, and its directory is made if need be.
func (f *File) Save() error {
	if !f.Changed() {
		return nil
	}
	text, err := f.encode()
	if err != nil {
		return &Error{File: f.path, Problem: "it cannot be rewritten without loss: " + err.Error(),
			Fix: "change it in an editor, or make a new one with kitt-agent init --force"}
	}
	if err := base.WritePrivate(f.path, text); err != nil {
		return err
	}
	f.mode, f.changed = 0o600, false
	return nil
}

// encode returns the file's text. It is read back, so that a text that the
// encoder cannot write faithfully is never put in the place of the user's own.
func (f *File) encode() (text []byte, err error) {
	defer func() {
		if r := recover(); r != nil { // the encoder's answer to comments that it cannot place
			err = fmt.Errorf("%v", r)
		}
	}()
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := errors.Join(enc.Encode(f.doc), enc.Close()); err != nil {
		return nil, err
	}
	again, err := parse(f.path, out.Bytes())
	if err != nil {
		return nil, err
	}
	if !same(f.doc.Content[0], again.doc.Content[0]) {
		return nil, errors.New("it would read differently afterwards")
	}
	return out.Bytes(), nil
}

// same reports whether two nodes hold the same data, however they are written.
func same(a, b *yaml.Node) bool {
	if a.Kind == yaml.AliasNode || b.Kind == yaml.AliasNode {
		return a.Kind == b.Kind && a.Value == b.Value
	}
	return a.Kind == b.Kind && a.Value == b.Value && a.ShortTag() == b.ShortTag() && a.Anchor == b.Anchor &&
		slices.EqualFunc(a.Content, b.Content, same)
}
