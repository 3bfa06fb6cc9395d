//go:build !linux

package beneath

import (
	"io/fs"
	"os"
	"path"
)

const enterFlags = os.O_RDONLY

func open(at Folder, rel string, flags int, perm fs.FileMode) (*os.File, error) {
	return at.Root.OpenFile(path.Join(at.Path, rel), flags, perm)
}
