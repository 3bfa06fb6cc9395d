package policy

import (
	"errors"
	"path"
	"slices"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/internal/base"
)

// kernelDirs hold no files but views of the kernel, of processes and of devices.
var kernelDirs = []string{"/proc", "/sys", "/dev"}

// CheckModel returns why a file or directory may not be used as a model where it is.
// name has no symbolic links in it. What is in the storage directory or on the share
// is not asked about.
func (p Policy) CheckModel(name string) error {
	name = path.Clean(name)
	if slices.ContainsFunc(kernelDirs, func(dir string) bool { return base.Within(dir, name) }) {
		return fault.New(Class, "name a model's directory or file", "%q is not a file on a disk", name)
	}
	if p.ModelDirs == nil {
		return nil
	}
	led := p.resolved()
	err := led.checkAgentFiles(name)
	if err != nil {
		return fault.New(Class, "move the model elsewhere", "%q cannot be a model: %w", name, err)
	}
	allowed := led.ModelDirs
	if led.Machine.StorageDir != "" {
		allowed = append(allowed, led.Machine.StorageDir)
	}
	if slices.ContainsFunc(allowed, func(dir string) bool { return base.Within(path.Clean(dir), name) }) {
		return nil
	}
	err = errors.New("the policy lets models be used only in the storage directory and on the share")
	return refuse("model_dirs", append(slices.Clone(p.ModelDirs), path.Dir(name)), "%q is not used where it is: %w", name, err)
}
