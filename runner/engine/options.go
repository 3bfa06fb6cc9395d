package engine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/kirizan/kitt-agent/fault"
)

// A Kind says what the value of an option is.
type Kind int

// The kinds.
const (
	Integer Kind = iota // a whole number from Min to Max
	Number              // a number from Min to Max
	Switch              // true or false
	Word                // one of Words, or any short word if there are none
)

// An Option is a key of runtime_config.
type Option struct {
	Key      string
	Kind     Kind
	Min, Max float64  // of Integer and Number
	Words    []string // of Word
	Flag     string   // the argument before the value; of a Switch, all there is where it is true
	Env      string   // or the environment variable that has the value
}

// Port is the option that all engines have. Ports below 1024 belong to services of the
// machine.
var Port = Option{Key: "port", Kind: Integer, Min: 1024, Max: 65535}

// maxConfig bounds runtime_config, in bytes.
const maxConfig = 64 << 10

var wordPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._,-]{0,63}$`)

// Check returns the value of the option as text, or what is wrong with it: a sentence
// that follows the option's key.
func (o Option) Check(value json.RawMessage) (string, error) {
	var v any
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		return "", fmt.Errorf("%s is not JSON", o.Key)
	}
	switch o.Kind {
	case Integer, Number:
		if text, ok := v.(json.Number); ok {
			return o.checkNumber(text)
		}
		if o.Kind == Integer {
			return "", fmt.Errorf("%s must be a whole number from %s to %s", o.Key, plain(o.Min), plain(o.Max))
		}
		return "", fmt.Errorf("%s must be a number from %s to %s", o.Key, plain(o.Min), plain(o.Max))
	case Switch:
		if b, ok := v.(bool); ok {
			return strconv.FormatBool(b), nil
		}
		return "", fmt.Errorf("%s must be true or false", o.Key)
	}
	text, ok := v.(string)
	switch {
	case len(o.Words) > 0 && (!ok || !slices.Contains(o.Words, text)):
		return "", fmt.Errorf("%s must be one of %s", o.Key, strings.Join(o.Words, ", "))
	case !ok || !wordPattern.MatchString(text):
		return "", fmt.Errorf("%s must be a word of letters, digits and . _ , - with at most 64 of them", o.Key)
	}
	return text, nil
}

func (o Option) checkNumber(text json.Number) (string, error) {
	f, err := text.Float64()
	switch {
	case err != nil || f < o.Min || f > o.Max:
		return "", fmt.Errorf("%s is %.30s, not from %s to %s", o.Key, text, plain(o.Min), plain(o.Max))
	case o.Kind == Number:
		return strconv.FormatFloat(f, 'g', -1, 64), nil
	case f != float64(int64(f)):
		return "", fmt.Errorf("%s is %.30s, not a whole number", o.Key, text)
	}
	return strconv.FormatInt(int64(f), 10), nil
}

func plain(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// Settings are what a runtime_config asks for.
type Settings struct {
	Port int      // where the engine listens
	Args []string // in addition to those that every start has
	Env  []string // as NAME=value
}

// Parse returns what a runtime_config asks for. Empty, null and {} ask for nothing. The
// error names each key that the engine doesn't have, and each value that it can't have.
func (s Spec) Parse(config json.RawMessage) (Settings, error) {
	settings := Settings{Port: s.Port}
	fields, err := Fields(config)
	if err != nil {
		return settings, err
	}
	var faults []string
	take := func(o Option) string {
		value, ok := fields[o.Key]
		if !ok && o.Env != "" {
			o.Key = o.Env
			value, ok = fields[o.Key]
		}
		delete(fields, o.Key)
		if !ok || string(value) == "null" {
			return ""
		}
		text, err := o.Check(value)
		if err != nil {
			faults = append(faults, err.Error())
		}
		return text
	}
	if text := take(Port); text != "" {
		settings.Port, _ = strconv.Atoi(text) // checked
	}
	known := []string{Port.Key}
	for _, o := range s.Options {
		known = append(known, o.Key)
		switch text := take(o); {
		case text == "" || text == "false" && o.Kind == Switch:
		case o.Kind == Switch:
			settings.Args = append(settings.Args, o.Flag)
		case o.Env != "":
			settings.Env = append(settings.Env, o.Env+"="+text)
		default:
			settings.Args = append(settings.Args, o.Flag, text)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		faults = append(faults, fmt.Sprintf("%.64q is not one of %s", key, strings.Join(known, ", ")))
	}
	if len(faults) > 0 {
		return settings, fault.New(ClassConfig, "", "runtime_config of %s: %s", s.Name, strings.Join(faults, "; "))
	}
	return settings, nil
}

// Fields returns the keys and values of a runtime_config.
func Fields(config json.RawMessage) (map[string]json.RawMessage, error) {
	config = bytes.TrimSpace(config)
	if len(config) > maxConfig {
		return nil, fault.New(ClassConfig, "", "runtime_config has %d bytes, at most %d are allowed", len(config), maxConfig)
	}
	fields := map[string]json.RawMessage{}
	if len(config) == 0 || string(config) == "null" {
		return fields, nil
	}
	if err := json.Unmarshal(config, &fields); err != nil {
		return nil, fault.New(ClassConfig, "", "runtime_config must be a JSON object such as {%q: 8090}", Port.Key)
	}
	return fields, nil
}

// Command returns the arguments after those of Found.Command, and the variables, that
// start the engine on host with a model, which may be empty.
func (s Spec) Command(settings Settings, host, model string) (args, env []string) {
	port := strconv.Itoa(settings.Port)
	args = slices.Clone(s.Serve)
	if s.PortFlag != "" {
		args = append(args, s.PortFlag, port, s.HostFlag, host)
	}
	if s.ModelFlag != "" && model != "" {
		args = append(args, s.ModelFlag, model)
	}
	env = slices.Clone(settings.Env)
	if s.HostEnv != "" {
		env = append(env, s.HostEnv+"="+net.JoinHostPort(host, port))
	}
	return append(args, settings.Args...), env
}
