// Package profile has the engine profiles of a KITT server: settings of an engine that
// an operator has saved under a name, and that a test can choose.
//
// A [Finder] brings a [Profile] from the server. [Profile.Config] checks what it holds
// and returns it as `kitt run --config` reads it.
package profile

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/engine"
)

// Class is the class of a failure because of a profile.
const Class = "engine-profile"

// ErrNotFound is matched by the error of a Finder whose server has no such profile.
var ErrNotFound = errors.New("the server has no such engine profile")

// A Finder is a server that has engine profiles.
type Finder interface {
	// EngineProfile returns the profile with an ID. The error matches [ErrNotFound] if
	// the server says that there is none.
	EngineProfile(ctx context.Context, id string) (Profile, error)
}

// A Profile is a row of the server's table of engine profiles. Nothing in it is checked.
type Profile struct {
	ID, Name string
	Engine   string          // the engine that it is for
	Mode     string          // docker or native
	Build    json.RawMessage // build_config
	Runtime  json.RawMessage // runtime_config
}

// File is the file among a job's results that holds what a benchmark was configured
// with. JSON is YAML too, which kitt reads.
const File = "engine-profile.yaml"

// startupTimeout is the one option that KITT reads of every engine, in seconds.
var startupTimeout = engine.Option{Key: "startup_timeout", Kind: engine.Number, Min: 1, Max: 24 * 3600}

// Config returns what p sets for a benchmark with an engine, as text of a File, and one
// line that says it. A key that is not one of the engine's plain settings is passed on as
// it is if allow returns nil for it. The error names what can't be used.
func (p Profile) Config(name string, allow func(key string) error) (text []byte, summary string, err error) {
	if p.Engine != name {
		return nil, "", fault.New(Class, "choose a profile for "+base.Printable(name, 64), "the engine profile %s is for the engine %s, and the test for %s",
			p.title(), base.Printable(p.Engine, 64), base.Printable(name, 64))
	}
	fields, err := engine.Fields(p.Runtime)
	if err != nil {
		return nil, "", p.refuse(err)
	}
	spec, _ := engine.Lookup(name)
	options := map[string]engine.Option{}
	for _, o := range append(spec.Options, engine.Port, startupTimeout) {
		options[o.Key] = o
	}
	delete(fields, "mode") // the test's own mode decides
	var said []string
	var faults []error
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		if string(fields[key]) == "null" {
			delete(fields, key)
			continue
		}
		option, plain := options[key]
		if !plain {
			if err := allow(key); err != nil {
				faults = append(faults, err)
			}
			said = append(said, base.Printable(key, 64))
			continue
		}
		value, err := option.Check(fields[key])
		if err != nil {
			faults = append(faults, err)
		}
		said = append(said, key+" "+value)
	}
	if len(faults) > 0 {
		return nil, "", p.refuse(faults...)
	}
	text, err = json.Marshal(fields)
	if err != nil {
		return nil, "", p.refuse(err)
	}
	if len(said) == 0 {
		said = []string{"no settings"}
	}
	return append(text, '\n'), "Engine profile " + p.title() + ": " + strings.Join(said, ", "), nil
}

// Builds reports whether the profile says how the engine is built, which is no matter of
// a test.
func (p Profile) Builds() bool {
	fields, err := engine.Fields(p.Build)
	return err != nil || len(fields) > 0
}

// ModeOf returns the profile's mode if it is one that KITT has, and an empty text
// otherwise.
func (p Profile) ModeOf() string {
	if p.Mode == runner.ModeDocker || p.Mode == runner.ModeNative {
		return p.Mode
	}
	return ""
}

// Port returns the port that the profile has the engine listen on, 0 if it names none.
func (p Profile) Port() int {
	fields, err := engine.Fields(p.Runtime)
	if err != nil {
		return 0
	}
	text, err := engine.Port.Check(fields[engine.Port.Key])
	if err != nil {
		return 0
	}
	port, _ := strconv.Atoi(text) // checked
	return port
}

// title returns the profile's name and ID, fit to print.
func (p Profile) title() string {
	return fmt.Sprintf("%s (%s)", base.Printable(p.Name, 64), base.Printable(p.ID, 64))
}

// refuse returns the error of a profile that can't be used for these reasons, with the
// remedy of the first that has one.
func (p Profile) refuse(reasons ...error) error {
	var texts []string
	fix := ""
	for _, err := range reasons {
		text := err.Error()
		if e, ok := errors.AsType[*fault.Error](err); ok { // the remedy comes once
			text, fix = e.Text, cmp.Or(fix, e.Fix)
		}
		texts = append(texts, text)
	}
	return fault.New(Class, fix, "the engine profile %s can't be used: %s", p.title(), strings.Join(texts, "; "))
}
