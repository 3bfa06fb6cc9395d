package policy

import "strings"

// AllowsStorage reports whether a path may be in a storage directory that the server
// may choose. It looks at no file.
func (p Policy) AllowsStorage(name string) bool {
	at := p.expand(name)
	if p.StorageDirs == nil {
		return true
	}
	for _, dir := range append(p.expandAll(p.StorageDirs), p.expand(p.Machine.StorageDir)) {
		if within(strings.TrimSuffix(dir, "/"), at) {
			return p.checkOwn(at) == nil
		}
	}
	return false
}
