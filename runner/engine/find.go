package engine

import (
	"bufio"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/kirizan/kitt-agent/fault"
)

// FinderConfig says where engines are looked for. Its zero value is the usual places.
type FinderConfig struct {
	// Dir has the engines that an agent installed, each in Dir/NAME/Current. They come
	// before others. Empty means that there are none.
	Dir string

	// Path is a list of directories like PATH; empty means PATH itself. Home is the
	// user's home directory; empty means $HOME.
	Path, Home string
}

// A Finder looks for engines on this machine. Its methods are safe for concurrent use.
type Finder struct {
	cfg      FinderConfig
	versions versions

	mu   sync.Mutex
	seen map[string]bool // names of engines that were installed; guarded by mu
}

// NewFinder returns a finder. It looks at nothing yet.
func NewFinder(cfg FinderConfig) *Finder {
	if cfg.Path == "" {
		cfg.Path = os.Getenv("PATH")
	}
	if cfg.Home == "" {
		cfg.Home, _ = os.UserHomeDir() // without one there is nothing below it
	}
	return &Finder{cfg: cfg, seen: map[string]bool{}}
}

// Found is where an engine is.
type Found struct {
	Command []string // the program, and the arguments that every call has
	Path    string   // how it is called, for a person

	program string // the file whose version it is, or the package's directory
	module  bool   // whether program is a Python package's directory
}

// Find returns where an engine is. The error is a [fault.Error] of ClassMissing.
func (f *Finder) Find(s Spec) (Found, error) {
	if s.Module != "" {
		for _, python := range f.pythons(s) {
			if module := moduleDir(python, s.Module); module != "" {
				return Found{Command: []string{python, "-m", s.Run}, Path: python + " -m " + s.Module, program: module, module: true}, nil
			}
		}
	}
	if s.Program != "" {
		if path := f.program(s); path != "" {
			return Found{Command: []string{path}, Path: path, program: path}, nil
		}
	}
	return Found{}, fault.New(ClassMissing, "install it, or choose engine_mode docker", "the engine %s is not installed on this machine: %s", s.Name, s.missing())
}

// missing says what a machine lacks that doesn't have the engine.
func (s Spec) missing() string {
	switch {
	case s.Module == "":
		return "there is no " + s.Program + " in PATH"
	case s.Program == "":
		return "no Python environment has the package " + s.Module
	}
	return "there is no " + s.Program + " in PATH, and no Python environment has the package " + s.Module
}

// program returns the path of an engine's program, empty if there is none.
func (f *Finder) program(s Spec) string {
	if f.cfg.Dir != "" {
		if path := ProgramIn(filepath.Join(f.cfg.Dir, s.Name, Current), s.Program); path != "" {
			return path
		}
	}
	return f.inPath(s.Program)
}

// ProgramIn returns the path of a program in the directory of an engine, empty if it is
// not there: in the directory itself, in bin or in build/bin, as packages have it.
func ProgramIn(root, program string) string {
	for _, dir := range []string{"", "bin", "build/bin"} {
		if path := filepath.Join(root, dir, program); runnable(path) {
			return path
		}
	}
	return ""
}

// Current is the link in the directory of an engine to the version that is installed.
const Current = "current"

// pythons returns the interpreters that may have an engine's package: its own
// environment's, that of kitt, and that of PATH.
func (f *Finder) pythons(s Spec) (found []string) {
	add := func(path string) {
		if path != "" && runnable(path) && !slices.Contains(found, path) {
			found = append(found, path)
		}
	}
	if s.Venv != "" && f.cfg.Home != "" {
		add(filepath.Join(f.cfg.Home, s.Venv, "bin", "python"))
	}
	if s.Program != "" {
		add(Interpreter(f.inPath(s.Program)))
	}
	add(Interpreter(f.inPath("kitt")))
	add(f.inPath("python3"))
	return found
}

func (f *Finder) inPath(program string) string {
	for _, dir := range filepath.SplitList(f.cfg.Path) {
		if path := filepath.Join(dir, program); filepath.IsAbs(dir) && runnable(path) {
			return path
		}
	}
	return ""
}

func runnable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}

// Interpreter returns the Python that the first line of a script names, empty if it names
// none.
func Interpreter(script string) string {
	file, err := os.Open(script)
	if err != nil {
		return ""
	}
	defer file.Close()
	line, err := bufio.NewReaderSize(file, 4096).ReadSlice('\n')
	if err != nil {
		return ""
	}
	name, ok := strings.CutPrefix(strings.TrimSpace(string(line)), "#!")
	if name = strings.TrimSpace(name); !ok || !filepath.IsAbs(name) || !strings.Contains(filepath.Base(name), "python") {
		return ""
	}
	return name
}

// moduleDir returns the directory of a Python package of an interpreter, empty if there
// is none. It is looked for where interpreters look that are not told otherwise, without
// starting one: an import of vLLM takes seconds.
func moduleDir(python, module string) string {
	prefix := filepath.Dir(filepath.Dir(python))
	for _, pattern := range []string{
		"lib/python3*/site-packages", "lib64/python3*/site-packages", "local/lib/python3*/dist-packages", "lib/python3*/dist-packages", "lib/python3/dist-packages",
	} {
		dirs, _ := filepath.Glob(filepath.Join(prefix, pattern, module)) // the pattern is well formed
		for _, dir := range dirs {
			if info, err := os.Stat(dir); err == nil && info.IsDir() {
				return dir
			}
		}
	}
	return ""
}

// Detect returns the state of the engines on this machine, as Manager.Detect does, but
// without any Launch. Engines that agents can't start are in it once they were found.
func (f *Finder) Detect(ctx context.Context) ([]Status, error) {
	running := listening()
	var all []Status
	for _, s := range Specs() {
		status := Status{Name: s.Name, Port: s.Port}
		if found, err := f.Find(s); err == nil {
			status.Installed, status.Path = true, found.Path
			status.Version = f.versions.get(ctx, s, found)
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		status.PID, status.Running = running.find(s, &status.Port)
		if f.remember(s.Name, status.Installed) || s.Startable() {
			all = append(all, status)
		}
	}
	return all, nil
}

// remember reports whether an engine is or ever was installed.
func (f *Finder) remember(name string, installed bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen[name] = f.seen[name] || installed
	return f.seen[name]
}
