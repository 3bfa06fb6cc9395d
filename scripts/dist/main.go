// Command dist makes what is released of kitt-agent: programs with NVML, which
// take glibc, and static ones without; the package that `kitt-agent update`
// takes; deb and rpm packages; OCI images.
//
//	go run ./scripts/dist -o dist
//
// The same commit gives the same bytes: the version comes from git, every date
// is the commit's (or SOURCE_DATE_EPOCH), and no path of the machine gets in.
// nfpm, which writes the deb and rpm packages, is run at a fixed version and is
// no dependency of the module.
package main

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"debug/buildinfo"
	"debug/elf"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

var arches = []string{"amd64", "arm64"}

// A program is one of those that are built.
type program struct {
	arch string
	nvml bool // with cgo, for NVIDIA's library; otherwise static
}

// name is its platform in a package, as package selfupdate describes it.
func (p program) name() string {
	if p.nvml {
		return "linux_" + p.arch + "_nvml"
	}
	return "linux_" + p.arch
}

// programs returns all that are built.
func programs() (all []program) {
	for _, arch := range arches {
		all = append(all, program{arch, false}, program{arch, true})
	}
	return all
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	out := flag.String("o", "dist", "`directory` for the results, which is emptied first")
	key := flag.String("key", "", "PEM `file` with the Ed25519 private key to sign the update package with")
	flag.Parse()
	if err := run(ctx, *out, *key); err != nil {
		fmt.Fprintln(os.Stderr, "dist:", err)
		os.Exit(1)
	}
}

// A release is one commit's.
type release struct {
	start   func(name string, args ...string) *exec.Cmd // a program that ends with the run
	dir     string                                      // of the results
	work    string                                      // of what goes into them
	version string                                      // such as v1.2.0, or a pseudo-version
	commit  string
	date    time.Time
	glibc   map[string]string // that the program with NVML needs, by architecture
}

func run(ctx context.Context, out, keyFile string) error {
	key, err := readKey(keyFile)
	if err != nil {
		return err
	}
	if err := empty(out); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "kitt-agent-dist-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	start := func(name string, args ...string) *exec.Cmd { return exec.CommandContext(ctx, name, args...) }
	r := &release{start: start, dir: out, work: work, glibc: map[string]string{}}
	if err := r.describe(); err != nil {
		return err
	}
	fmt.Println("kitt-agent", r.version)
	for _, p := range programs() {
		if err := r.build(p); err != nil {
			return err
		}
		if err := copyFile(r.path(p), filepath.Join(out, "kitt-agent_"+p.name()), 0o755); err != nil {
			return err
		}
	}
	if err := r.documents(); err != nil {
		return err
	}
	if err := r.update(key); err != nil {
		return err
	}
	for _, arch := range arches {
		if err := r.bill(arch); err != nil {
			return err
		}
		if err := r.systemPackages(arch); err != nil {
			return err
		}
		if err := r.image(arch); err != nil {
			return err
		}
	}
	return r.sums()
}

// empty makes dir and removes what an earlier run left there.
func empty(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return err
	}
	for _, f := range files {
		if name := filepath.Base(f); !strings.HasPrefix(name, "kitt-agent") && name != "SHA256SUMS" {
			return fmt.Errorf("%s is not of a release's; name an empty directory with -o", f)
		}
		if err := os.Remove(f); err != nil {
			return err
		}
	}
	return nil
}

// describe asks git what is being built.
func (r *release) describe() error {
	commit, err := r.output("git", "rev-parse", "HEAD")
	if err != nil {
		return err
	}
	r.commit = commit
	seconds := os.Getenv("SOURCE_DATE_EPOCH")
	if seconds == "" {
		if seconds, err = r.output("git", "log", "-1", "--format=%ct"); err != nil {
			return err
		}
	}
	unix, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	r.date = time.Unix(unix, 0).UTC()
	older := ""
	tag, err := r.output("git", "describe", "--tags", "--abbrev=0", "--match", "v[0-9]*")
	if err == nil {
		older = tag
		if tagged, err := r.output("git", "rev-parse", tag+"^{commit}"); err == nil && tagged == commit {
			r.version = tag
		}
	}
	if r.version == "" { // as Go itself calls an untagged commit
		r.version = module.PseudoVersion("v0", older, r.date, commit[:12])
	}
	changed, err := r.output("git", "status", "--porcelain", "--untracked-files=no")
	if changed != "" {
		r.version += "+dirty"
	}
	return err
}

func (r *release) path(p program) string {
	return filepath.Join(r.work, p.name(), "kitt-agent")
}

// build builds a program, without paths of this machine.
func (r *release) build(p program) error {
	flags := "-s -w -buildid= -X main.version=" + r.version + " -X main.commit=" + r.commit
	env := []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + p.arch, "GOFLAGS=-mod=readonly"}
	tags, mode := "kitt_supervise", "-buildmode=exe"
	if err := r.tools(p.arch); err != nil {
		return err
	}
	if p.nvml {
		tags, mode = tags+",nvml", "-buildmode=pie" // as distributions build theirs
		cc, err := compiler(p.arch)
		if err != nil {
			return err
		}
		env = append(env, "CGO_ENABLED=1", "CC="+cc, "CGO_CFLAGS=-O2 -w", "CGO_LDFLAGS=")
		flags += " -extldflags=-Wl,--build-id=none"
	}
	err := r.do(env, "go", "build", mode, "-tags", tags, "-trimpath", "-buildvcs=false", "-o", r.path(p), "-ldflags", flags, "./cmd/kitt-agent")
	if err != nil {
		return err
	}
	if err := checkProgram(r.path(p), p.nvml); err != nil || !p.nvml {
		return err
	}
	r.glibc[p.arch], err = newestGlibc(r.path(p))
	fmt.Printf("%s needs glibc %s\n", p.name(), r.glibc[p.arch])
	return err
}

// compilers are those for each architecture, by Debian's names.
var compilers = map[string]string{"amd64": "x86_64-linux-gnu-gcc", "arm64": "aarch64-linux-gnu-gcc"}

// compiler returns the C compiler for an architecture.
func compiler(arch string) (string, error) {
	if path, err := exec.LookPath(compilers[arch]); err == nil {
		return path, nil
	}
	if arch == runtime.GOARCH {
		return exec.LookPath("cc")
	}
	return "", fmt.Errorf("%s is needed for the program with NVML; try: sudo apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross gcc-x86-64-linux-gnu", compilers[arch])
}

// checkProgram returns an error if a static program asks for an interpreter, which
// is the dynamic linker, or if one with NVML was built without it.
func checkProgram(path string, nvml bool) error {
	f, err := elf.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if !nvml {
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP {
				return fmt.Errorf("%s is not static: it has an interpreter", path)
			}
		}
		return nil
	}
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return err
	}
	for _, dep := range info.Deps {
		if dep.Path == "github.com/NVIDIA/go-nvml" {
			return nil
		}
	}
	return fmt.Errorf("%s was built without NVML", path)
}

// newestGlibc returns the newest version of glibc that a program asks for.
func newestGlibc(path string) (string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	symbols, err := f.ImportedSymbols()
	if err != nil {
		return "", err
	}
	newest := "v2.0"
	for _, s := range symbols {
		if v, ok := strings.CutPrefix(s.Version, "GLIBC_"); ok && semver.Compare("v"+v, newest) > 0 {
			newest = "v" + v
		}
	}
	return newest[1:], nil
}

// sums writes SHA256SUMS of all results.
func (r *release) sums() error {
	files, err := filepath.Glob(filepath.Join(r.dir, "kitt-agent*"))
	if err != nil {
		return err
	}
	slices.Sort(files)
	var sums []byte
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		sums = fmt.Appendf(sums, "%x  %s\n", sha256.Sum256(data), filepath.Base(f))
	}
	fmt.Printf("%s", sums)
	return os.WriteFile(filepath.Join(r.dir, "SHA256SUMS"), sums, 0o644)
}

// do runs a program with its output on standard error.
func (r *release) do(env []string, name string, args ...string) error {
	cmd := r.command(name, args...)
	cmd.Env = append(cmd.Env, env...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (r *release) output(name string, args ...string) (string, error) {
	out, err := r.command(name, args...).Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

func (r *release) command(name string, args ...string) *exec.Cmd {
	cmd := r.start(name, args...)
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH="+strconv.FormatInt(r.date.Unix(), 10), "LC_ALL=C", "TZ=UTC")
	return cmd
}

func copyFile(from, to string, mode os.FileMode) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, mode)
}

// readKey reads the private key, as `openssl genpkey -algorithm ed25519` writes
// it.
func readKey(name string) (ed25519.PrivateKey, error) {
	if name == "" {
		return nil, nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("the key is not in PEM form")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the key can't be read")
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, errors.New("the key is not an Ed25519 one")
	}
	return private, nil
}
