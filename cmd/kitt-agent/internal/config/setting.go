package config

import (
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A Setting is a key with its value in force, for a person.
type Setting struct {
	Key    string
	Value  string // "[redacted]" in place of what must not be seen
	Origin string // as Config.Origin returns it
}

// noted is what is remembered of a key that is set.
type noted struct {
	origin string
	text   string // the value, for a person, unless it must not be seen
}

const redacted = "[redacted]"

// Settings returns the value of every key, in the order of Keys, without secrets.
func (c *Config) Settings() []Setting {
	all := make([]Setting, 0, len(keys))
	for _, key := range keys {
		s := Setting{Key: key.Name, Value: key.Default, Origin: c.Origin(key.Name)}
		if set, ok := c.origins[key.Name]; ok {
			s.Value = set.text
		}
		all = append(all, s)
	}
	return all
}

// note remembers where the value of key comes from, and what it is unless it must not be
// seen.
func (c *Config) note(key *Key, value *yaml.Node, origin string) {
	text := ""
	switch {
	case key.Secret:
		text = redacted
	case key.Name == "env":
		var vars []string
		for _, name := range slices.Sorted(maps.Keys(c.Env)) {
			vars = append(vars, name+": "+c.Env[name].String())
		}
		text = strings.Join(vars, ", ")
	default:
		text = textOf(value)
	}
	c.origins[key.Name] = noted{origin, text}
}

// textOf returns a value on one line.
func textOf(n *yaml.Node) string {
	if n.Kind == yaml.ScalarNode {
		return n.Value
	}
	var values []string
	for _, item := range n.Content {
		values = append(values, textOf(follow(item)))
	}
	return "[" + strings.Join(values, ", ") + "]"
}
