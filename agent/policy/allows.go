package policy

import (
	"path"

	"github.com/kirizan/kitt-agent/internal/base"
)

// AllowsStorage reports whether a path may be in a storage directory that the server
// may choose. It looks at no file.
func (p Policy) AllowsStorage(name string) bool {
	at := p.expand(name)
	if p.StorageDirs == nil {
		return true
	}
	for _, dir := range append(p.expandAll(p.StorageDirs), p.expand(p.Machine.StorageDir)) {
		if base.Within(path.Clean(dir), at) {
			return p.checkOwn(at) == nil
		}
	}
	return false
}
