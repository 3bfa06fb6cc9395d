package policy

import (
	"errors"
	"path"
	"slices"
	"strings"

	"github.com/kirizan/kitt-agent/internal/base"
)

// checkStorageName returns why the server may not choose a storage directory of
// that name. It doesn't look at the directory.
func (p Policy) checkStorageName(name string) error {
	at := p.expand(name)
	if p.isOwnStorage(at) {
		return nil
	}
	if err := p.storagePlace(at); err != nil {
		return refuse("storage_dirs", []string{at}, "%w", err)
	}
	return nil
}

// isOwnStorage reports whether the machine's own configuration names the directory,
// or nothing limits it.
func (p Policy) isOwnStorage(at string) bool {
	return p.StorageDirs == nil || p.Machine.StorageDir != "" && at == p.expand(p.Machine.StorageDir) || p.isListed(at)
}

// isListed reports whether the owner listed this very directory.
func (p Policy) isListed(at string) bool {
	return slices.ContainsFunc(p.StorageDirs, func(dir string) bool { return !strings.HasSuffix(dir, "/") && p.expand(dir) == at })
}

// expandAll expands directories. A slash at the end stays.
func (p Policy) expandAll(dirs []string) []string {
	all := make([]string, len(dirs))
	for i, dir := range dirs {
		all[i] = p.expand(dir)
		if strings.HasSuffix(dir, "/") {
			all[i] = strings.TrimSuffix(all[i], "/") + "/"
		}
	}
	return all
}

// storagePlace returns why a directory is not at a place for models: below one of
// StorageDirs, or in the machine's own or a usual storage directory.
func (p Policy) storagePlace(at string) error {
	allowed := p.expandAll(p.StorageDirs)
	if err := p.checkOwn(at); err != nil {
		return err
	}
	for _, dir := range []string{p.Machine.StorageDir, path.Join(p.Machine.Dir, "models"), path.Join(p.home(), ".kitt/models")} {
		dir = p.expand(dir)
		if rel, ok := base.Below(dir, at); ok && path.IsAbs(dir) {
			return checkNames(rel)
		}
		if at == dir {
			return nil
		}
	}
	for _, dir := range allowed {
		rel, ok := base.Below(dir, at)
		if !ok {
			continue
		}
		if dir == "/var/lib/" && !forModels(rel) {
			return errors.New("directories in /var/lib belong to other programs")
		}
		return checkNames(rel)
	}
	return errors.New("it is not below " + strings.Join(allowed, ", "))
}

// forModels reports whether the first name of a path says that it is meant for this
// program or for models. What other programs read in /var/lib may decide what root
// runs, as in /var/lib/extensions and /var/lib/cloud.
func forModels(rel string) bool {
	first, _, _ := strings.Cut(rel, "/")
	first = strings.ToLower(path.Base(first))
	return strings.Contains(first, "kitt") || strings.Contains(first, "model")
}
