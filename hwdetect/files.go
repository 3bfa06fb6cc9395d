package hwdetect

import (
	"errors"
	"io"
	"io/fs"
	"strconv"
	"strings"
)

// maxFile is the most that is read of one file, in bytes. The largest file is
// /proc/cpuinfo, with 1.5 KiB for each of at most a few thousand CPUs.
const maxFile = 8 << 20

// readFile returns the text of a file below root.
func readFile(root fs.FS, name string) (string, error) {
	f, err := root.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile))
	return string(b), err
}

// readLine returns the text of a small file without surrounding white space, or
// an empty string if the file cannot be read.
func readLine(root fs.FS, name string) string {
	s, _ := readFile(root, name)
	return strings.TrimSpace(strings.ReplaceAll(s, "\x00", ""))
}

// exists reports whether root has a file of that name.
func exists(root fs.FS, name string) bool {
	_, err := fs.Stat(root, name)
	return err == nil
}

// list returns the sorted names in a directory, or none if it does not exist.
func list(root fs.FS, dir string) []string {
	entries, _ := fs.ReadDir(root, dir)
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// number returns the leading decimal digits of s as a number, or 0.
func number(s string) int64 {
	s = strings.TrimSpace(s)
	end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if end >= 0 {
		s = s[:end]
	}
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}

// reason returns in a few words why a file could not be read.
func reason(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return "only root may read it"
	}
	if errors.Is(err, fs.ErrNotExist) {
		return "no such file"
	}
	return err.Error()
}
