package storage

import (
	"errors"
	"io/fs"
	"os"
)

// A copy is abandoned when its agent died, or when nothing waits for it any more.
// Its stage and claim stay, so that the next request for the model resumes it.

// removeAbandoned removes what an abandoned copy left, unless an agent has resumed
// it. The claim stays locked meanwhile, so that none does.
func (d *modelDir) removeAbandoned(rel string) (removed bool, err error) {
	name := d.claims.path(rel)
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = file.Close() }() // only its lock matters
	if free, err := tryLock(file); err != nil || !free || !isNamed(file, name) {
		return false, err
	}
	if err := d.disk.removeAll(d.stage(rel)); err != nil {
		return false, err
	}
	// A crash just before the copy was published leaves a manifest. It would make
	// the storage's own what anyone puts there later.
	m, err := d.copies.at(rel)
	if err == nil && m == nil {
		err = os.Remove(d.copies.manifest(rel))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return true, os.Remove(name)
}
