package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/runner/engine"
)

// EngineRule is the rule for an entry of Policy.StartEngines.
func EngineRule(name string) error {
	if spec, ok := engine.Lookup(name); !ok || !spec.Startable() {
		return errors.New("it is not an engine that an agent can start")
	}
	return nil
}

// InstallRule is the rule for an entry of Policy.InstallEngines.
func InstallRule(name string) error {
	if err := EngineRule(name); err != nil {
		return err
	}
	if spec, _ := engine.Lookup(name); spec.Module != "" {
		return fmt.Errorf("it is a Python package, which an agent does not install; install it into ~/%s with pip", spec.Venv)
	}
	return nil
}

// CheckEngine returns why a native engine may not be started or stopped by the server or
// a caller.
func (p Policy) CheckEngine(name string) error {
	if EngineRule(name) != nil {
		return engine.ErrUnknown(name)
	}
	if p.StartEngines == nil || slices.Contains(p.StartEngines, name) {
		return nil
	}
	return fault.New(Class, fmt.Sprintf("to allow it, add to agent.yaml: policy: {engines: {start: [%s]}}", strings.Join(append(slices.Clone(p.StartEngines), name), ", ")),
		"the engine %.64s may not be started or stopped", name)
}

// CheckInstall returns why a native engine may not be installed.
func (p Policy) CheckInstall(name string) error {
	if EngineRule(name) != nil {
		return engine.ErrUnknown(name)
	}
	if p.InstallEngines == nil || slices.Contains(p.InstallEngines, name) {
		return nil
	}
	if err := InstallRule(name); err != nil {
		return fault.New(Class, "", "%s can't be installed: %w", name, err)
	}
	return fault.New(Class, fmt.Sprintf("to allow it, add to agent.yaml: policy: {engines: {install: [%.64s]}}, and the version under engines.packages", name),
		"engines are installed only where the machine's owner allows it, and %.64s is not allowed", name)
}
