package base

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// ErrTooLarge is matched by the error of a [ReadJSON] that met a longer file than
// it was told to expect.
var ErrTooLarge = errors.New("file too large")

// ReadJSON reads the JSON value in path into v. It refuses what is not a regular
// file, and with [ErrTooLarge] a file of more than limit bytes. The error
// matches [os.ErrNotExist] if there is no such file.
func ReadJSON(path string, v any, limit int64) error {
	f, err := OpenRegular(path)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return err
	}
	if int64(len(text)) > limit {
		return fmt.Errorf("%s: %w: more than %d bytes", path, ErrTooLarge, limit)
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// OpenRegular opens the regular file at path for reading. It refuses every other
// kind of file, and waits for none: opening a named pipe would wait for a writer
// (fifo(7)). The error matches [os.ErrNotExist] if there is no such file.
func OpenRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// SyncDir makes the names in dir durable (fsync(2)).
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Exists reports whether there is a file at path, a dangling link included.
func Exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
