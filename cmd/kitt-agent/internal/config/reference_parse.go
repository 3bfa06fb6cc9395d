package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kirizan/kitt-agent/agent"
)

// reference reads the value of the variable name: a text, or a map of value and
// secret.
func reference(name string, n *yaml.Node) (Reference, error) {
	var said *bool
	if n.Kind == yaml.MappingNode {
		value, secret, err := valueAndSecret(n)
		if err != nil {
			return Reference{}, err
		}
		n, said = value, secret
	}
	text, err := scalar(n)
	if err != nil {
		return Reference{}, err
	}
	r := Reference{raw: agent.Secret(text)}
	if r.secret = !r.Literal() || namesSecret(name); said != nil {
		r.secret = *said
	}
	return r, r.check()
}

// referenceTo takes a text that may say where a secret is to be had.
func referenceTo(field func(*Config) *Reference) func(*Config, *yaml.Node) error {
	return parsed(func(c *Config, value string) error {
		r := Reference{raw: agent.Secret(value), secret: true}
		if err := r.check(); err != nil {
			return err
		}
		*field(c) = r
		return nil
	})
}

func valueAndSecret(n *yaml.Node) (value *yaml.Node, secret *bool, err error) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		item := follow(n.Content[i+1])
		switch key := n.Content[i].Value; key {
		case "value":
			value = item
		case "secret":
			b, err := strconv.ParseBool(item.Value)
			if err != nil || item.Kind != yaml.ScalarNode {
				return nil, nil, errors.New("secret is neither true nor false")
			}
			secret = &b
		default:
			return nil, nil, fmt.Errorf("%q is neither value nor secret", key)
		}
	}
	if value == nil {
		return nil, nil, errors.New("it has no value")
	}
	return value, secret, nil
}

// namesSecret reports whether a variable of that name holds a secret.
func namesSecret(name string) bool {
	name = strings.ReplaceAll(strings.ToUpper(name), "TOKENIZER", "")
	for _, word := range []string{"TOKEN", "KEY", "SECRET", "PASS", "CRED", "AUTH"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}
