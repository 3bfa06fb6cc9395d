package supervisor

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/internal/base"
)

// An ending is where exit.json is written, whose block is taken while there is
// one: on a disk that is full at the end there would be none.
type ending struct {
	dir  string
	file *os.File // nil if it can't be made
}

const endingName = ExitFile + ".new"

func newEnding(dir string) *ending {
	f, err := create(filepath.Join(dir, endingName), os.O_TRUNC)
	if err != nil {
		return &ending{dir: dir}
	}
	// A file system that can't, takes the block when it is written.
	_ = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, 4096)
	return &ending{dir, f}
}

func (e *ending) close() {
	if e.file != nil {
		e.file.Close()
	}
}

// write writes exit.json durably: all of it or nothing.
func (e *ending) write(end Exit) error {
	if e.file == nil {
		return replace(e.dir, ExitFile, end)
	}
	text, err := encode(end)
	if err != nil {
		return err
	}
	_, err = e.file.WriteAt(text, 0)
	err = errors.Join(err, e.file.Sync())
	if base.Transient(err) {
		return err
	}
	if err == nil {
		err = os.Rename(filepath.Join(e.dir, endingName), filepath.Join(e.dir, ExitFile))
	}
	if err != nil { // the benchmark may have removed it
		return replace(e.dir, ExitFile, end)
	}
	return base.SyncDir(e.dir)
}
