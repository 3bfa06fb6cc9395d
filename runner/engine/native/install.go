package native

import (
	"context"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/engine"
)

// A Package is a version of an engine that may be installed.
type Package struct {
	Version string // names its directory
	URL     string // https, or an absolute path: a .tar.gz, .tgz or .zip
	SHA256  string // of the file, in hexadecimal
}

// Install installs the package of an engine that Config.Packages names.
func (m *Manager) Install(_ context.Context, name string, _ runner.Output) error {
	if spec, ok := engine.Lookup(name); !ok || !spec.Startable() {
		return engine.ErrUnknown(name)
	}
	return fault.New(engine.ClassInstall, "", "this agent installs no engines")
}
