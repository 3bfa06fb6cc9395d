package policy

import (
	"errors"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kirizan/kitt-agent/internal/base"
)

// programDirs are names of directories whose files are run, read as configuration or
// shown to others by what finds them there, wherever that is.
var programDirs = []string{"bin", "sbin", "lib", "lib32", "lib64", "libexec", "etc", "public_html", "Desktop"}

// checkNames refuses names below an allowed directory that are not for data: those
// that begin with a dot, as in ~/.ssh and ~/.config/autostart, and programDirs.
func checkNames(rel string) error {
	for name := range strings.SplitSeq(rel, "/") {
		if strings.HasPrefix(name, ".") || slices.Contains(programDirs, name) {
			return errors.New("it is in a directory " + name + ", which may hold programs or settings")
		}
	}
	return nil
}

// checkOwn refuses a directory that would mix with the agent's own files or with
// those of its user.
func (p Policy) checkOwn(name string) error {
	if slices.ContainsFunc(p.homes(), func(home string) bool { return home != "/" && base.Within(name, home) }) {
		return errors.New("the home directory of the agent's user is in it")
	}
	if strings.Count(name, "/") == 2 && path.Dir(name) == "/home" {
		return errors.New("it is a home directory")
	}
	return p.checkAgentFiles(name)
}

// checkAgentFiles refuses what holds the agent's own files, or is one of them.
func (p Policy) checkAgentFiles(name string) error {
	dir := p.Machine.Dir
	if dir == "" || base.Within(path.Join(dir, "models"), name) {
		return nil
	}
	if base.Within(dir, name) || base.Within(name, dir) {
		return errors.New("the agent's own files are there")
	}
	return nil
}

// real returns a path with its symbolic links followed, also if its end does not
// exist yet.
func real(name string) (string, error) {
	name = path.Clean(name)
	at, err := filepath.EvalSymlinks(name)
	if err == nil || !errors.Is(err, fs.ErrNotExist) || name == "/" {
		return at, err
	}
	parent, err := real(path.Dir(name))
	return path.Join(parent, path.Base(name)), err
}

// resolved returns p with the links of its directories followed. The owner made those
// links. What it is asked about must have none either.
func (p Policy) resolved() Policy {
	all := func(dirs []string) []string {
		if dirs == nil {
			return nil
		}
		led := p.expandAll(dirs)
		for i, dir := range led {
			if at, err := real(dir); err == nil && at != path.Clean(dir) {
				led[i] = at + dir[len(strings.TrimSuffix(dir, "/")):]
			}
		}
		return led
	}
	one := func(dir string) string {
		if dir == "" {
			return ""
		}
		return all([]string{dir})[0]
	}
	p.StorageDirs, p.MountDirs, p.ModelDirs = all(p.StorageDirs), all(p.MountDirs), all(p.ModelDirs)
	p.Machine.Home = one(p.home())
	p.Machine.StorageDir, p.Machine.Dir = one(p.Machine.StorageDir), one(p.Machine.Dir)
	return p
}
