package native

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/engine"
)

// A Package is a version of an engine that may be installed. The machine's owner names
// it: the digest says exactly which bytes.
type Package struct {
	Version string // names its directory
	URL     string // https, or an absolute path; it ends in .tar.gz, .tgz or .zip
	SHA256  string // of the file, 64 hexadecimal digits
}

const (
	maxPackage      = 16 << 30 // bytes of the file
	installProgress = 10 * time.Second
)

var (
	versionName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$`)
	digest      = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)
)

// Check returns what is wrong with a package.
func (p Package) Check() error {
	if !versionName.MatchString(p.Version) {
		return fmt.Errorf("version %q is not a word such as b7000 or 0.12.3", p.Version)
	}
	if !digest.MatchString(p.SHA256) {
		return fmt.Errorf("sha256 %.80q does not have 64 hexadecimal digits", p.SHA256)
	}
	if unpackerOf(p.URL) == nil {
		return fmt.Errorf("url %q does not end in .tar.gz, .tgz or .zip", p.URL)
	}
	if u, err := url.Parse(p.URL); !filepath.IsAbs(p.URL) && (err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil) {
		return fmt.Errorf("url %q is neither https without a password nor an absolute path", p.URL)
	}
	return nil
}

// Install installs the package of an engine that Config.Packages names, into the
// manager's directory. It runs nothing of it.
func (m *Manager) Install(ctx context.Context, name string, out runner.Output) error {
	spec, ok := engine.Lookup(name)
	if !ok || !spec.Startable() {
		return engine.ErrUnknown(name)
	}
	p, ok := m.cfg.Packages[name]
	if !ok {
		return fault.New(engine.ClassInstall, "add engines.packages."+name+" with version, url and sha256 to agent.yaml, or install it yourself",
			"there is no package of %s that may be installed", name)
	}
	if spec.Module != "" {
		return fault.New(engine.ClassInstall, "install it into ~/"+spec.Venv+" with pip", "%s is a Python package, which this agent does not install", name)
	}
	if err := p.Check(); err != nil {
		return fault.New(engine.ClassInstall, "correct engines.packages."+name+" in agent.yaml", "the package of %s: %w", name, err)
	}
	versions := filepath.Join(m.dirOf(name), "versions")
	if err := os.MkdirAll(versions, 0o700); err != nil {
		return err
	}
	target := filepath.Join(versions, p.Version)
	if !base.Exists(target) {
		if err := m.unpackInto(ctx, spec, p, target, out); err != nil {
			return err
		}
	}
	if err := point(filepath.Join(m.dirOf(name), engine.Current), filepath.Join("versions", p.Version)); err != nil {
		return fmt.Errorf("make version %s of %s the one in force: %w", p.Version, name, err)
	}
	m.log.Info("engine installed", "engine", name, "version", p.Version)
	return out.WriteMessage(fmt.Sprintf("%s %s is installed in %s", name, p.Version, target))
}

// unpackInto brings a package, checks it and unpacks it as target, which appears only
// when it is whole. What an interrupted call left goes first.
func (m *Manager) unpackInto(ctx context.Context, spec engine.Spec, p Package, target string, out runner.Output) (err error) {
	file, dir := filepath.Join(filepath.Dir(target), ".download"), filepath.Join(filepath.Dir(target), ".unpacked")
	clean := func() error { return errors.Join(os.RemoveAll(file), os.RemoveAll(dir)) }
	if err := clean(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clean()) }()
	if err := m.download(ctx, p, file, out); err != nil {
		return fmt.Errorf("get %s: %w", p.URL, err)
	}
	if err := out.WriteMessage("The digest is right, unpacking"); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := unpackerOf(p.URL)(ctx, file, dir); err != nil {
		return fault.New(engine.ClassInstall, "", "unpack %s: %w", p.URL, err)
	}
	root, err := rootOf(dir, spec)
	if err != nil {
		return err
	}
	if err := os.Rename(root, target); err != nil {
		return err
	}
	return base.SyncDir(filepath.Dir(target))
}

// rootOf returns the directory of what was unpacked in which the engine's program is:
// dir, or the only one in it.
func rootOf(dir string, spec engine.Spec) (string, error) {
	candidates := []string{dir}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) == 1 && entries[0].IsDir() {
		candidates = append(candidates, filepath.Join(dir, entries[0].Name()))
	}
	for _, root := range candidates {
		if engine.ProgramIn(root, spec.Program) != "" {
			return root, nil
		}
	}
	return "", fault.New(engine.ClassInstall, "correct engines.packages."+spec.Name+" in agent.yaml", "the package holds no program %s", spec.Program)
}

// point has a symbolic link lead to a directory, in one step.
func point(link, target string) error {
	next := link + ".next"
	if err := os.Remove(next); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, next); err != nil {
		return err
	}
	if err := os.Rename(next, link); err != nil {
		return err
	}
	return base.SyncDir(filepath.Dir(link))
}

// download writes a package to a file, and returns an error if it is not the one that is
// wanted.
func (m *Manager) download(ctx context.Context, p Package, path string, out runner.Output) (err error) {
	body, size, err := m.openPackage(ctx, p.URL)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := out.WriteMessage(fmt.Sprintf("Getting %s (%s)", p.URL, sizeText(size))); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	sum := sha256.New()
	said := time.Now()
	var done int64
	for buf := make([]byte, 1<<20); ; {
		n, err := body.Read(buf)
		if done += int64(n); done > maxPackage {
			return fmt.Errorf("it has more than %s", base.Size(maxPackage))
		}
		if _, err := io.MultiWriter(file, sum).Write(buf[:n]); err != nil {
			return err
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, io.EOF):
			if got := hex.EncodeToString(sum.Sum(nil)); !strings.EqualFold(got, p.SHA256) {
				return fault.New(engine.ClassInstall, "correct sha256 in agent.yaml if that is the package that you want", "its SHA-256 is %s, not %s", got, p.SHA256)
			}
			return nil
		case err != nil:
			return err
		}
		if time.Since(said) >= installProgress {
			said = time.Now()
			if err := out.WriteMessage(fmt.Sprintf("%s of %s", base.Size(done), sizeText(size))); err != nil {
				return err
			}
		}
	}
}

func sizeText(size int64) string {
	if size < 0 {
		return "unknown size"
	}
	return base.Size(size)
}

// openPackage opens a package and returns its size, -1 if that isn't known.
func (m *Manager) openPackage(ctx context.Context, from string) (io.ReadCloser, int64, error) {
	if filepath.IsAbs(from) {
		file, err := base.OpenRegular(from)
		if err != nil {
			return nil, 0, err
		}
		info, err := file.Stat()
		if err != nil {
			return nil, 0, errors.Join(err, file.Close())
		}
		return file, info.Size(), nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, 0, err
	}
	client := http.Client{Transport: m.cfg.Transport, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if req.URL.Scheme != "https" || len(via) >= 10 {
			return fmt.Errorf("it leads to %s", req.URL.Redacted())
		}
		return nil
	}}
	answer, err := client.Do(req)
	if err != nil {
		return nil, 0, cmp.Or(context.Cause(ctx), err)
	}
	if answer.StatusCode != http.StatusOK {
		return nil, 0, errors.Join(fmt.Errorf("the server answers %s", answer.Status), answer.Body.Close())
	}
	return answer.Body, answer.ContentLength, nil
}
