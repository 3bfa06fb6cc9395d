package hwdetect

import (
	"errors"
	"io"
	"io/fs"
	"strconv"
	"strings"
)

// maxFile bounds what is read of any one file. The largest is /proc/cpuinfo,
// with 1.5 KiB for each of at most a few thousand CPUs.
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

// readLine returns the text of a small file without the blanks around it, or
// an empty text if there is no such file.
func readLine(root fs.FS, name string) string {
	s, _ := readFile(root, name)
	return strings.TrimSpace(strings.ReplaceAll(s, "\x00", ""))
}

// exists reports whether there is a file below root of that name.
func exists(root fs.FS, name string) bool {
	_, err := fs.Stat(root, name)
	return err == nil
}

// list returns the names in a directory, sorted, or none if there is none.
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

// reason says in a few words why a file could not be read.
func reason(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return "only root may read it"
	}
	if errors.Is(err, fs.ErrNotExist) {
		return "no such file"
	}
	return err.Error()
}
